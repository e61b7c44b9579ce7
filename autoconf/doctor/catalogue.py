"""Every check, in the order of the table. docs/how-to/doctor.md says why each is there and what its failure means."""

from __future__ import annotations

from autoconf.doctor.checks import Check

BUNDLE, DATA, BOTH = ("bundle",), ("datalist",), ("bundle", "datalist")
MODEL = ("bundle", "work", "checkpoint")

METRICS = (
    Check("metrics", "bundle: perfect, all background", "1 and 0", "bundle_metrics:perfect_and_missed", BUNDLE),
    Check("metrics", "bundle: missed tumour", "mean 0.5", "bundle_metrics:emptied", BUNDLE),
    Check("metrics", "bundle: false tumour", "mean 0.5", "bundle_metrics:false_tumour", BUNDLE),
)
DATA_CHECKS = (
    Check("data", "patients apart", "no patient on two sides", "data:patients_apart", DATA),
    Check("data", "files apart", "no file content on two sides", "data:files_apart", DATA),
    Check("data", "copies apart", "no copy on two sides", "data:copies_apart", DATA),
    Check("data", "label values", "those of the regions", "data:labels_known", DATA),
    Check("data", "masks in the head", "at most 10% outside", "data:masks_in_head", DATA),
    Check("data", "masks not mirrored", "each fits best as it is", "data:masks_not_mirrored", DATA),
    Check("data", "modalities as named", "no two exchanged", "data:modalities_as_named", DATA),
    Check("data", "round trip", "Dice 0.98 or more, same grid", "bundle_data:round_trip", BUNDLE),
    Check("data", "voxel size", "Dice 0.8 or more, same grid", "bundle_data:spacing_ceiling", BOTH),
    Check("data", "intensities", "mean 0, std 1, +- 0.05", "bundle_data:intensities", BOTH),
    Check("data", "crops", "pos / (pos + neg) centred", "bundle_data:crops", BOTH),
    Check("data", "modality order", "channels as in metadata.json", "bundle_data:modality_order", BOTH),
    Check("data", "one preprocessing", "largest difference 0", "bundle_data:same_tensor", BOTH),
)
TRAINING = (
    Check("training", "same answer in every precision", "within rounding", "bundle_arithmetic:same_answer", BOTH),
    Check("training", "initial loss", "the formulae, +- 0.001", "bundle_training:initial_loss", BOTH),
    Check("training", "zero input", "finite numbers", "bundle_training:zero_input", BOTH),
    Check("training", "one mask", "the same voxels three times", "bundle_training:same_mask", BOTH),
    Check("training", "overfit one case", "Dice above 0.95", "bundle_training:overfit", BOTH, slow=True),
    Check("training", "label permutation", "up to the mean mask + 0.1", "bundle_training:shuffled", BOTH, slow=True),
)
MODEL_CHECKS = (
    Check("model", "modalities used", "not better without one", "bundle_model:modalities_used", MODEL),
    Check("model", "transformer's share", "not better without it", "bundle_model:transformer_share", MODEL),
    Check("model", "better than a FLAIR threshold", "Dice not below it", "bundle_model:beats_threshold", MODEL),
)
CHECKS = (*METRICS, *DATA_CHECKS, *TRAINING, *MODEL_CHECKS)
