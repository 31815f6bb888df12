"""Results that the M2HF paper reports: printed next to ours and labelled "paper"."""

from dataclasses import dataclass

SOURCE = "M2HF, arXiv 2208.07664"


@dataclass(frozen=True)
class PaperResult:
    """T2V R@1 in percent on one benchmark: of the arXiv version, and of the journal version."""

    benchmark: str
    recall: float
    journal: float


RESULTS = (
    PaperResult("MSR-VTT", 64.9, 66.0),
    PaperResult("MSVD", 68.2, 68.6),
    PaperResult("LSMDC", 33.2, 33.9),
    PaperResult("DiDeMo", 57.1, 57.4),
    PaperResult("ActivityNet", 57.8, 57.3),
)


def paper_result(benchmark: str) -> PaperResult | None:
    """The paper's result on `benchmark` ("MSR-VTT", "msrvtt"); None where it has none."""
    wanted = _plain(benchmark)
    return next((r for r in RESULTS if _plain(r.benchmark) == wanted), None)


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
