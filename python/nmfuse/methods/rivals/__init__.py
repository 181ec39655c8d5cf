"""The methods that image fusion is compared with, one file each."""
