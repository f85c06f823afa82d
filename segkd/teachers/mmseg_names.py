"""Names of mmsegmentation's tensors -> those of the networks here: declared tables, one for each family.

A table is a list of (regular expression, replacement), applied in this order to every tensor's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Names = Sequence[tuple[str, str | Callable[["re.Match[str]"], str]]]

#: mmcv's ConvModule is convolution, BatchNorm, activation, as ``ConvNormAct`` is
MODULES: Names = ((r"\.conv\.(weight|bias)$", r".0.\1"), (r"\.bn\.", ".1."), (r"\.activate\.", ".2."))
CLASSIFIER: Names = ((r"^decode_head\.conv_seg\.", "classifier."),)
FCN_HEAD: Names = ((r"^decode_head\.convs\.0\.", "head."), *CLASSIFIER)
SEPARABLE: Names = ((r"\.depthwise_conv\.", ".0."), (r"\.pointwise_conv\.", ".1."))
#: of a ConvModule that begins with its BatchNorm, as ``NormActConv`` does
PRE_ACTIVATION: Names = (
    (r"^(pyramid\..*|fusion\.mix|head)\.bn\.", r"\1.0."),
    (r"^(pyramid\..*|fusion\.mix|head)\.conv\.", r"\1.2."),
)


def shifted(prefix: str, by: int, group: int = 1) -> Callable[[re.Match[str]], str]:
    """Replacement that writes ``prefix``, then the number in a group of the match plus ``by``, then a dot."""
    return lambda found: f"{prefix}{int(found[group]) + by}."


FAST_SCNN: Names = (
    (r"^backbone\.learning_to_downsample\.conv\.", "learning_to_downsample.0."),
    (r"^backbone\.learning_to_downsample\.dsconv", "learning_to_downsample."),
    (r"^backbone\.global_feature_extractor\.bottleneck(\d)\.(\d)\.conv\.", r"global_features.stage\1.\2.body."),
    (r"^backbone\.global_feature_extractor\.ppm\.", "global_features.pooling.levels."),
    (r"^backbone\.global_feature_extractor\.out\.", "global_features.pooling.project."),
    (r"^backbone\.feature_fusion\.dwconv\.", "fusion.spread."),
    (r"^backbone\.feature_fusion\.conv_lower_res\.", "fusion.coarse."),
    (r"^backbone\.feature_fusion\.conv_higher_res\.", "fusion.detail."),
    (r"^decode_head\.convs\.", "head."),
    *SEPARABLE,
    *CLASSIFIER,
    *MODULES,
)
SEGFORMER: Names = (
    (r"^backbone\.layers\.(\d)\.0\.projection\.", lambda found: f"encoder.patch_embed{int(found[1]) + 1}.proj."),
    (r"^backbone\.layers\.(\d)\.0\.norm\.", lambda found: f"encoder.patch_embed{int(found[1]) + 1}.norm."),
    (r"^backbone\.layers\.(\d)\.1\.", shifted("encoder.block", 1)),
    (r"^backbone\.layers\.(\d)\.2\.", shifted("encoder.norm", 1)),
    (r"\.attn\.attn\.out_proj\.", ".attn.proj."),
    (r"\.ffn\.layers\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.dwconv.dwconv."),
    (r"\.ffn\.layers\.4\.", ".mlp.fc2."),
    (r"^decode_head\.convs\.(\d)\.", lambda found: f"decoder.mlp_stage.{3 - int(found[1])}."),  # coarsest first
    (r"^decode_head\.fusion_conv\.", "decoder.fuse_stage."),
    (r"^decode_head\.conv_seg\.", "segmentation_head.0."),
    *MODULES,
)
REFINEMENT: Names = ((r"\.conv_layer\.", ".conv."), (r"\.atten_conv_layer\.1\.", ".gate.1."))
BISENETV1: Names = (
    (r"^backbone\.context_path\.backbone\.", "trunk."),
    (r"^trunk\.conv1\.", "trunk.stem.0.0."),
    (r"^trunk\.bn1\.", "trunk.stem.0.1."),
    (r"^(trunk\.layer\d\.\d)\.conv(\d)\.", lambda found: f"{found[1]}.body.{int(found[2]) - 1}.0."),
    (r"^(trunk\.layer\d\.\d)\.bn(\d)\.", lambda found: f"{found[1]}.body.{int(found[2]) - 1}.1."),
    (r"\.downsample\.", ".shortcut."),
    (r"^backbone\.context_path\.arm", "context.refine"),
    *REFINEMENT,
    (r"^backbone\.context_path\.conv_head32\.", "context.up16."),
    (r"^backbone\.context_path\.conv_head16\.", "context.up8."),
    (r"^backbone\.context_path\.gap_conv\.", "context.pool."),
    (r"^backbone\.spatial_path\.layer(\d)\.", shifted("spatial.", -1)),
    (r"^backbone\.ffm\.conv1\.", "fusion.conv."),
    (r"^backbone\.ffm\.conv_atten\.0\.", "fusion.gate.1."),
    *FCN_HEAD,
    *MODULES,
)
#: index of each stage's first convolution in the detail branch
DETAIL = (0, 2, 5)
BISENETV2: Names = (
    (r"^backbone\.detail\.detail_branch\.(\d)\.(\d)\.", lambda m: f"detail.{DETAIL[int(m[1])] + int(m[2])}."),
    (r"^backbone\.semantic\.stage1\.conv_first\.", "semantic.stem.conv."),
    (r"^backbone\.semantic\.stage1\.convs\.", "semantic.stem.down."),
    (r"^backbone\.semantic\.stage1\.fuse_last\.", "semantic.stem.fuse."),
    (r"^backbone\.semantic\.stage4_CEBlock\.gap\.", "semantic.context.pool."),
    (r"^backbone\.semantic\.stage4_CEBlock\.conv_gap\.", "semantic.context.pool.2."),
    (r"^backbone\.semantic\.stage4_CEBlock\.conv_last\.", "semantic.context.conv."),
    (r"^backbone\.semantic\.stage(\d)\.", shifted("semantic.stage", 1)),
    (r"^(semantic\.stage\d\.\d)\.conv1\.", r"\1.body.0."),
    (r"^(semantic\.stage\d\.\d)\.dwconv\.(\d)\.", lambda found: f"{found[1]}.body.{int(found[2]) + 1}."),
    (r"^(semantic\.stage\d\.\d)\.conv2\.0\.", r"\1.project."),
    (r"\.shortcut\.0\.", ".shortcut."),
    (r"^backbone\.bga\.detail_dwconv\.0\.", "aggregation.detail."),
    (r"^backbone\.bga\.semantic_dwconv\.0\.", "aggregation.semantics."),
    (r"^backbone\.bga\.detail_down\.", "aggregation.detail_down."),
    (r"^backbone\.bga\.semantic_conv\.0\.", "aggregation.semantics_up."),
    (r"^backbone\.bga\.conv\.", "aggregation.fuse."),
    (r"^(aggregation\..*)\.pointwise_conv\.conv\.", r"\1.1."),  # without BatchNorm
    *SEPARABLE,
    *FCN_HEAD,
    *MODULES,
)
STDC: Names = (
    (r"^backbone\.backbone\.stages\.([01])\.", r"stem.\1."),
    (r"^backbone\.backbone\.stages\.(\d)\.", shifted("stage", 1)),
    (r"\.layers\.0\.", ".first."),
    (r"\.layers\.(\d)\.", shifted(".rest.", -1)),
    (r"\.downsample\.", ".down."),
    (r"^backbone\.arms\.0\.", "context.refine32."),
    (r"^backbone\.arms\.1\.", "context.refine16."),
    *REFINEMENT,
    (r"^backbone\.convs\.0\.", "context.up16."),
    (r"^backbone\.convs\.1\.", "context.up8."),
    (r"^backbone\.conv_avg\.", "context.pool.1."),
    (r"^backbone\.ffm\.conv0\.", "fusion.conv."),
    (r"^backbone\.ffm\.attention\.1\.conv\.", "fusion.gate.1."),  # these two without BatchNorm
    (r"^backbone\.ffm\.attention\.2\.conv\.", "fusion.gate.3."),
    *FCN_HEAD,
    *MODULES,
)
#: what DDRNet and PIDNet share: stem, blocks, pyramid
DUAL_STEM: Names = (
    (r"^backbone\.stem\.2\.", "stage1."),
    (r"^backbone\.stem\.4\.", "stage2."),
    (r"^backbone\.stem\.", "stem."),
    (r"^backbone\.compression_(\d)\.", lambda found: f"to_detail{int(found[1]) + 2}.project."),
    (r"^backbone\.spp\.scales\.0\.", "pyramid.point."),
    (r"^backbone\.spp\.scales\.(\d)\.", shifted("pyramid.levels.", -1)),
    (r"^backbone\.spp\.processes\.", "pyramid.smooth."),
    (r"^backbone\.spp\.compression\.", "pyramid.project."),
    (r"^backbone\.spp\.shortcut\.", "pyramid.shortcut."),
    (r"\.conv(\d)\.(conv|bn)\.", lambda found: f".body.{int(found[1]) - 1}.{found[2]}."),
    (r"\.downsample\.", ".shortcut."),
)
DDRNET: Names = (
    (r"^backbone\.context_branch_layers\.2\.0\.", "context5."),
    (r"^backbone\.context_branch_layers\.(\d)\.", shifted("context", 3)),
    (r"^backbone\.spatial_branch_layers\.2\.0\.", "detail5."),
    (r"^backbone\.spatial_branch_layers\.(\d)\.", shifted("detail", 3)),
    (r"^backbone\.down_1\.", "to_context3.down.0."),
    (r"^backbone\.down_2\.", "to_context4.down."),
    *DUAL_STEM,
    (r"^decode_head\.head\.0\.", "head."),
    (r"^decode_head\.head\.1\.", "classifier.0."),
    (r"^decode_head\.conv_seg\.", "classifier.2."),
    *PRE_ACTIVATION,
    *MODULES,
)
PIDNET: Names = (
    (r"^backbone\.i_branch_layers\.(\d)\.", shifted("context", 3)),
    (r"^backbone\.p_branch_layers\.2\.0\.", "detail5."),
    (r"^backbone\.p_branch_layers\.(\d)\.", shifted("detail", 3)),
    (r"^backbone\.d_branch_layers\.0\.", "boundary3."),
    (r"^backbone\.d_branch_layers\.1\.(0\.)?", "boundary4."),  # PIDNet-L has the block itself
    (r"^backbone\.d_branch_layers\.2\.0\.", "boundary5."),
    (r"^backbone\.pag_(\d)\.f_i\.", lambda found: f"to_detail{int(found[1]) + 2}.query."),
    (r"^backbone\.pag_(\d)\.f_p\.", lambda found: f"to_detail{int(found[1]) + 2}.key."),
    (r"^backbone\.diff_(\d)\.", lambda found: f"to_boundary{int(found[1]) + 2}.project."),
    (r"^backbone\.dfm\.f_p\.", "fusion.detail."),
    (r"^backbone\.dfm\.f_i\.", "fusion.context."),
    (r"^backbone\.dfm\.conv\.", "fusion.mix."),
    *DUAL_STEM,
    (r"^decode_head\.i_head\.conv\.", "head."),
    (r"^decode_head\.i_head\.norm\.", "classifier.0."),
    (r"^decode_head\.conv_seg\.", "classifier.2."),
    *PRE_ACTIVATION,
    *MODULES,
)
BLOCK_1D = {"0": "first.0", "2": "first.2", "3": "norm1", "5": "second.0", "7": "second.2", "8": "norm2"}
ERFNET: Names = (
    (r"^backbone\.encoder\.([01])\.conv\.", lambda found: f"down{int(found[1]) + 1}.0.conv."),
    (r"^backbone\.encoder\.([01])\.bn\.", lambda found: f"down{int(found[1]) + 1}.1."),
    (r"^backbone\.encoder\.7\.conv\.", "down3.0.conv."),
    (r"^backbone\.encoder\.7\.bn\.", "down3.1."),
    (r"^backbone\.encoder\.([2-6])\.", shifted("stage2.", -2)),
    (r"^backbone\.encoder\.(\d+)\.", shifted("stage3.", -8)),
    (r"^backbone\.decoder\.0\.", "up2."),
    (r"^backbone\.decoder\.3\.", "up1."),
    (r"^backbone\.decoder\.([12])\.", shifted("decode2.", -1)),
    (r"^backbone\.decoder\.([45])\.", shifted("decode1.", -4)),
    (r"\.convs_layers\.(\d)\.", lambda found: f".{BLOCK_1D[found[1]]}."),
    *FCN_HEAD,
    (r"^(head|up\d)\.conv\.", r"\1.0."),
    (r"^(head|up\d)\.bn\.", r"\1.1."),
)
CGNET: Names = (
    (r"^backbone\.stem\.", "stem."),
    (r"^backbone\.norm_prelu_(\d)\.0\.", lambda found: f"join{int(found[1]) + 1}.norm."),
    (r"^backbone\.norm_prelu_(\d)\.1\.", lambda found: f"join{int(found[1]) + 1}.act."),
    (r"^backbone\.level(\d)\.0\.", shifted("down", 1)),
    (r"^backbone\.level(\d)\.(\d+)\.", lambda found: f"stage{int(found[1]) + 1}.{int(found[2]) - 1}.body."),
    (r"\.f_loc\.", ".1.local."),
    (r"\.f_sur\.", ".1.surrounding."),
    (r"^(down\d|stage\d\.\d+\.body)\.bn\.", r"\1.1.norm_act.norm."),
    (r"^(down\d|stage\d\.\d+\.body)\.activate\.", r"\1.1.norm_act.act."),
    (r"\.conv1x1\.", ".0."),
    (r"\.bottleneck\.", ".2."),
    (r"^(down\d)\.f_glo\.fc\.", r"\1.3.gate."),
    (r"\.f_glo\.fc\.", ".2.gate."),
    *CLASSIFIER,
    *MODULES,
)
#: mmsegmentation's ResNet of three convolutions in the stem
RESNET: Names = (
    (r"^backbone\.stem\.(\d)\.", lambda found: f"backbone.stem.{int(found[1]) // 3}.{int(found[1]) % 3}."),
    (r"^(backbone\.layer\d\.\d+)\.conv(\d)\.", lambda found: f"{found[1]}.body.{int(found[2]) - 1}.0."),
    (r"^(backbone\.layer\d\.\d+)\.bn(\d)\.", lambda found: f"{found[1]}.body.{int(found[2]) - 1}.1."),
    (r"\.downsample\.", ".shortcut."),
)
DILATED: Names = (
    *RESNET,
    (r"^decode_head\.psp_modules\.", "context.levels."),
    (r"^decode_head\.bottleneck\.", "context.project."),
    (r"^decode_head\.image_pool\.", "context.pool."),
    (r"^decode_head\.aspp_modules\.", "context.branches."),
    (r"^decode_head\.c1_bottleneck\.", "fine."),
    (r"^decode_head\.sep_bottleneck\.", "refine."),
    *SEPARABLE,
    *CLASSIFIER,
    *MODULES,
)
ICNET: Names = (
    (r"^backbone\.backbone\.", "backbone."),
    *RESNET,
    (r"^backbone\.psp_modules\.", "context.0.levels."),
    (r"^backbone\.psp_bottleneck\.", "context.0.project."),
    (r"^backbone\.conv_sub4\.", "context.1."),
    (r"^backbone\.conv_sub2\.", "middle."),
    (r"^backbone\.conv_sub1\.", "detail."),
    (r"^neck\.cff_24\.", "fusion16."),
    (r"^neck\.cff_12\.", "fusion8."),
    (r"\.conv_low\.", ".coarse."),
    (r"\.conv_high\.", ".fine."),
    *FCN_HEAD,
    *MODULES,
)
UPERNET_CONVNEXT: Names = (
    (r"^backbone\.downsample_layers\.0\.(\d)\.", r"encoder.model.stem_\1."),
    (r"^backbone\.downsample_layers\.(\d)\.", r"encoder.model.stages_\1.downsample."),
    (r"^backbone\.stages\.(\d)\.(\d+)\.", r"encoder.model.stages_\1.blocks.\2."),
    (r"\.depthwise_conv\.", ".conv_dw."),
    (r"\.pointwise_conv(\d)\.", r".mlp.fc\1."),
    (r"^backbone\.norm(\d)\.", r"decoder.feature_norms.\1."),
    (r"^decode_head\.psp_modules\.", "decoder.psp.blocks."),
    (r"^decode_head\.bottleneck\.", "decoder.psp.out_conv."),
    (r"^decode_head\.lateral_convs\.(\d)\.", lambda m: f"decoder.fpn_lateral_blocks.{2 - int(m[1])}.conv_norm_relu."),
    (r"^decode_head\.fpn_convs\.(\d)\.", lambda found: f"decoder.fpn_conv_blocks.{2 - int(found[1])}."),
    (r"^decode_head\.fpn_bottleneck\.", "decoder.fusion_block."),
    (r"^decode_head\.conv_seg\.", "segmentation_head.0."),
    *MODULES,
)
