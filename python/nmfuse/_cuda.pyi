from nmfuse.kernels._operations import CudaOperations

_table: CudaOperations
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
version = _table.version
toolkit = _table.toolkit
architectures = _table.architectures
why_not = _table.why_not
devices = _table.devices
