from nmfuse.kernels._operations import CpuOperations

_table: CpuOperations
NmfOptions = _table.NmfOptions
FlagReadback = _table.FlagReadback
dtypes = _table.dtypes
max_hann_size = _table.max_hann_size
describe = _table.describe
is_capturing = _table.is_capturing
hannmean = _table.hannmean
hannmean_adjoint_workspace = _table.hannmean_adjoint_workspace
hannmean_adjoint = _table.hannmean_adjoint
reject_outliers = _table.reject_outliers
aggregate_blocks_workspace = _table.aggregate_blocks_workspace
aggregate_blocks = _table.aggregate_blocks
aggregate_blocks_adjoint_workspace = _table.aggregate_blocks_adjoint_workspace
aggregate_blocks_adjoint = _table.aggregate_blocks_adjoint
window_information = _table.window_information
nmf_workspace = _table.nmf_workspace
nmf_update = _table.nmf_update
nmf_objective = _table.nmf_objective
nmf_settle = _table.nmf_settle
nmf_normalize = _table.nmf_normalize
fusion_survey = _table.fusion_survey
fusion_level = _table.fusion_level
halve_images = _table.halve_images
count_levels = _table.count_levels
round_levels = _table.round_levels
sparse_nmf_workspace = _table.sparse_nmf_workspace
sparse_nmf_update = _table.sparse_nmf_update
sparse_nmf_objective = _table.sparse_nmf_objective
version = _table.version
compiler = _table.compiler
flags = _table.flags
isa = _table.isa
num_threads = _table.num_threads
set_num_threads = _table.set_num_threads
