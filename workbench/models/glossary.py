"""The eight terms of GigaGAN in two sentences and one formula each, and the paper's own figures with their
source. The notebook and the app read their words and numbers here, so that both say the same.

Formulas are LaTeX in the paper's symbols (Kang et al. 2023, arXiv 2303.05511v2).
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.errors import WorkbenchError

PAPER = "Kang et al. 2023, arXiv 2303.05511v2"


@dataclass(frozen=True, kw_only=True)
class Term:
    """key: short name in code; name: as one says it; plain: two sentences; formula: LaTeX without dollar
    signs; unicode: the same in plain characters; not_so: a wide-spread error put right, or "".
    """

    key: str
    name: str
    plain: str
    formula: str
    unicode: str
    not_so: str = ""


TERMS: tuple[Term, ...] = (
    Term(
        key="clip",
        name="CLIP text encoder",
        plain=(
            "A network that has already learned to bring pictures and their captions together turns "
            "each word of the prompt into a vector, and stays frozen. A small trainable transformer T"
            " on top makes of them one vector for each word and one for the whole sentence, read at "
            "the end-of-text token."
        ),
        formula=r"(t_{\mathrm{local}},\, t_{\mathrm{global}}) = T\big(\mathcal{E}_{\mathrm{txt}}(c)\big)",
        unicode="(t_local, t_global) = T(E_txt(c))",
    ),
    Term(
        key="cross-attention",
        name="cross-attention",
        plain=(
            "Every place of the picture asks all words of the prompt which of them concern it, and "
            "takes over what those words say. So a word can act on a part of the picture instead of "
            "on all of it alike."
        ),
        formula=(
            r"\mathrm{softmax}_j\!\left(\frac{q(f_i)^{\top} k(t_j)}{\sqrt d}\right) v(t_j),"
            r"\qquad t_j \in t_{\mathrm{local}}"
        ),
        unicode="softmax_j( q(f_i) · k(t_j) / √d ) v(t_j),  t_j in t_local",
    ),
    Term(
        key="self-attention",
        name="self-attention",
        plain=(
            "Every place of the picture looks at all other places and takes over something from those"
            " that resemble it, however far away they are. GigaGAN measures resemblance by distance "
            "rather than by product, because that keeps the discriminator's slope bounded."
        ),
        formula=r"A_{ij} = \mathrm{softmax}_j\!\left(-s\,\lVert q_i - q_j \rVert^2\right)",
        unicode="A_ij = softmax_j( −s |q_i − q_j|² )",
    ),
    Term(
        key="kernels",
        name="adaptive kernel selection",
        plain=(
            "A convolution keeps a small bank of kernels instead of one, and the style vector w "
            "decides how much of each goes into the kernel that is used for this picture. Prompt and "
            "noise thus choose the tool, and the same tool is then used everywhere in the picture."
        ),
        formula=(
            r"K = \sum_{i=1}^{N} a_i K_i, \qquad "
            r"a = \mathrm{softmax}(W_{\mathrm{filter}}^{\top} w + b_{\mathrm{filter}})"
        ),
        unicode="K = Σ_i a_i K_i,  a = softmax(W_filterᵀ w + b_filter)",
        not_so=(
            "It does not pick kernel shapes for regions of the image. The bank is mixed once for each"
            " picture and layer by a softmax, and the mixed kernel runs over the whole picture."
        ),
    ),
    Term(
        key="multi-scale",
        name="multi-scale generator and discriminator",
        plain=(
            "The generator gives out the picture at every size on the way from coarse to fine, and "
            "the discriminator judges each of these sizes on its own and at several depths. So the "
            "coarse layout gets a lesson of its own, which otherwise drowns in the judgement of fine "
            "detail."
        ),
        formula=(
            r"\mathcal{V}_{\mathrm{MS\text{-}I/O}} = "
            r"\sum_{i=0}^{L-1}\sum_{j=i+1}^{L} \mathcal{V}(G_i, D_{ij})"
        ),
        unicode="V_MS-I/O = Σ_i Σ_{j>i} V(G_i, D_ij)",
    ),
    Term(
        key="matching",
        name="matching-aware loss",
        plain=(
            "The discriminator is also shown pictures, real and made, with a caption drawn at random,"
            " and learns to reject those pairs. Only so does it have a reason to read the caption, "
            "and the generator a reason to obey it."
        ),
        formula=(
            r"\mathbb{E}\,\zeta\big(D(x, \hat c)\big) + \mathbb{E}\,\zeta\big(D(G(z,c), \hat c)\big),"
            r"\qquad \zeta(u)=\log(1+e^u)"
        ),
        unicode="E ζ(D(x, ĉ)) + E ζ(D(G(z,c), ĉ)),  ζ(u) = log(1 + eᵘ)",
        not_so=(
            "It is no distance between generated and real images. It judges pairs of a picture and a "
            "caption: a perfect photograph under a false caption counts as fake."
        ),
    ),
    Term(
        key="contrastive",
        name="CLIP contrastive loss",
        plain=(
            "CLIP compares a made picture with its own caption and with captions of other pictures in"
            " the batch. The generator loses as long as another caption seems to fit better."
        ),
        formula=(
            r"-\log \frac{"
            r"\exp\big(\tau\,\mathcal{E}_{\mathrm{img}}(G(c_0))^{\top}\mathcal{E}_{\mathrm{txt}}(c_0)\big)"
            r"}{\sum_n "
            r"\exp\big(\tau\,\mathcal{E}_{\mathrm{img}}(G(c_0))^{\top}\mathcal{E}_{\mathrm{txt}}(c_n)\big)}"
        ),
        unicode="−log softmax_n( τ E_img(G(c₀)) · E_txt(c_n) ) at n = 0",
    ),
    Term(
        key="vision-aided",
        name="vision-aided loss",
        plain=(
            "Small judges sit on several layers of a frozen network that already knows how pictures "
            "look, and tell real from made by its features. They see at once what a discriminator of "
            "our own would need long to discover."
        ),
        formula=(
            r"\mathcal{L}_{\mathrm{Vision}} = \sum_{l} \mathcal{V}\Big(G,\; "
            r"D_l\big(R_l\,\mathcal{E}_{\mathrm{img}}^{(l)}(x),\, c\big)\Big)"
        ),
        unicode="L_Vision = Σ_l V(G, D_l(R_l E_img⁽ˡ⁾(x), c))",
    ),
)


def term(key: str) -> Term:
    """The term of that key. WorkbenchError for an unknown one, naming those there are."""
    for entry in TERMS:
        if entry.key == key:
            return entry
    raise WorkbenchError(f"There is no term {key!r}: choose one of {', '.join(t.key for t in TERMS)}.")


# --- the paper's own figures --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Published:
    """A model in published figures. steps: runs of the network for one picture; None: the paper says nothing.

    fid: zero-shot on COCO, 30k captions; seconds: for one picture on an A100; parameters: millions.
    """

    name: str
    kind: str
    steps: str
    parameters: float | None
    fid: float | None
    seconds: float | None
    source: str


# Batch size and precision of the times are not stated in the paper.
PUBLISHED: tuple[Published, ...] = (
    Published(name="GigaGAN", kind="GAN", steps="one", parameters=1000, fid=9.09, seconds=0.13,
              source=PAPER),
    Published(name="Stable Diffusion v1.5", kind="diffusion", steps="many", parameters=900, fid=9.62,
              seconds=2.9, source=PAPER),
    Published(name="Imagen", kind="diffusion", steps="many", parameters=None, fid=7.27, seconds=9.1,
              source=PAPER),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A row of the paper's ablation: 64 px, FID of 10k pictures, CLIP score, parameters in millions."""

    name: str
    fid: float
    clip: float
    parameters: float


# The paper's ablation table, each row added to those before it.
ABLATION: tuple[Rung, ...] = tuple(
    Rung(name=name, fid=fid, clip=clip, parameters=parameters)
    for name, fid, clip, parameters in (
        ("StyleGAN2 with text", 29.91, 0.222, 27.8),
        ("larger", 34.07, 0.223, 158.9),
        ("tuned", 28.11, 0.228, 26.2),
        ("attention", 23.87, 0.235, 59.0),
        ("matching-aware D", 27.29, 0.250, 59.0),
        ("matching-aware G and D", 21.66, 0.254, 59.0),
        ("adaptive convolution", 19.97, 0.261, 80.2),
        ("deeper", 19.18, 0.263, 161.9),
        ("CLIP loss", 14.88, 0.280, 161.9),
        ("multi-scale", 14.92, 0.300, 164.0),
        ("vision-aided", 13.67, 0.287, 164.0),
        ("scale-up", 9.18, 0.307, 652.5),
    )
)


def rung(name: str) -> Rung:
    """The row of that name in the paper's ablation; WorkbenchError for an unknown one."""
    for row in ABLATION:
        if row.name == name:
            return row
    raise WorkbenchError(f"There is no row {name!r}: choose one of {', '.join(r.name for r in ABLATION)}.")
