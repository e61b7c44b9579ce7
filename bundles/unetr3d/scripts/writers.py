"""Write masks with the axes of their scans."""

from __future__ import annotations

import numpy as np
from monai.config import NdarrayOrTensor
from monai.data import NibabelWriter


class ScanWriter(NibabelWriter):
    """MONAI's writer of NIfTI files, for `SaveImaged`, which would drop a last axis of one voxel with the channel's.

    A mask of a single slice then had two axes where its scan has three, and one of a single voxel was not written.
    """

    def set_data_array(
        self, data_array: NdarrayOrTensor, channel_dim: int | None = 0, squeeze_end_dims: bool = True, **kwargs
    ) -> None:
        """data_array: (C, H, W, D); saved as (H, W, D), or (H, W, D, C) of several channels."""
        super().set_data_array(data_array, channel_dim, squeeze_end_dims=False, **kwargs)
        array = np.asarray(self.data_obj)
        self.data_obj = array[..., 0] if channel_dim is not None and array.shape[-1] == 1 else array
