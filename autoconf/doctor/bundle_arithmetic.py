"""Does the network answer the same in every precision that this device offers?"""

from __future__ import annotations

import os

import torch

from autoconf.doctor.checks import Outcome, Subject
from autoconf.doctor.opened import config, items, load_weights
from autoconf.doctor.samples import sample

MOST = 0.25  # |bfloat16 - float32| / |float32| of all logits; rounding explains 0.01 to 0.03
PRECISIONS: dict[str, bool | str] = {"float32": False, "bfloat16": "force", "by default": True}  # -> `amp`
LOOK = "compare masks of --amp False; see docs/evidence/bfloat16_on_amx.md"


def same_answer(subject: Subject) -> Outcome:
    """Logits of a case by inference.yaml: in float32, in bfloat16 unchecked, and as the bundle does by default.

    The bundle's own account of its default names the layer that is wrong. What it found in earlier runs is not used.
    """
    os.environ["GLIOBUNDLE_CACHE"] = os.path.join(subject.scratch, "cache")
    answers, account = {}, ""
    for name, amp in PRECISIONS.items():
        answers[name], account = logits(subject, amp)
    wanted = answers["float32"]
    low, default = (
        float(torch.linalg.vector_norm(answers[name] - wanted) / torch.linalg.vector_norm(wanted))
        for name in ("bfloat16", "by default")
    )
    measured = f"bfloat16 {low:.2g} from float32, default {default:.2g}"
    if not (low <= MOST and default <= MOST) or "is wrong" in account:  # a distance that is NaN fails, too
        return Outcome(f"{measured}; {account}", False, LOOK)
    return Outcome(measured, True, account)


def logits(subject: Subject, amp: bool | str) -> tuple[torch.Tensor, str]:
    """The network's answer to the first case, and what the bundle says about the precision, if anything.

    Its weights are those of the checkpoint that is examined, or of the config's own; without one, or with a plan, none.
    """
    parser = config(subject, "inference", **sample(subject, 1), amp=amp)
    torch.manual_seed(0)  # fresh weights are the same for each precision
    network = parser.get_parsed_content("network")
    checkpoint = subject.checkpoint or ("" if subject.plan else str(parser.get_parsed_content("checkpoint")))
    if os.path.isfile(checkpoint):
        load_weights(network, checkpoint)
    first = parser.get_parsed_content("preprocessing")(dict(items(parser, "dataset")[0]))
    image = torch.as_tensor(first["image"]).float()[None].clone().to(parser.get_parsed_content("device"))
    inferer = parser.get_parsed_content("inferer")
    with torch.no_grad():
        answer = inferer(image, network.eval()).cpu()
    return answer, inferer.report().get("why", "") if hasattr(inferer, "report") else ""
