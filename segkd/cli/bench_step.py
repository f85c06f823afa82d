"""``segkd bench step``: where a training step's time goes, and what the training loop costs beside a bare one."""

from __future__ import annotations

import argparse

from segkd.cli.common import console, following, load, save_json, say
from segkd.errors import UserError


def run(args: argparse.Namespace) -> None:
    """Time the parts of a config's training step, and the loop in turns with a bare one; print both."""
    if len(args.files) > 1 or args.channels:
        raise UserError("`segkd bench step CONFIG` takes one config, and no --channels")
    from segkd.report.tables import step_table
    from segkd.training.environment import environment
    from segkd.workbench.step import time_step

    given = {"data.batch_size": args.batch, "data.augment.crop_size": args.size, "engine.threads": args.threads}
    own = [f"{key}={value}" for key, value in given.items() if value is not None]
    args.config, args.overrides = (args.files or [None])[0], [*args.overrides, *own]
    cfg = load(args)
    with following() as progress:
        found = time_step(cfg, args.repeats or 20, args.untrained, args.random_images, progress)
    about, content = found.about, environment(cfg.get("seed"))
    size = "x".join(map(str, about["crop"])) if about["crop"] else "no one size"
    layout = ", channels_last" if about["channels_last"] else ""
    threads = f", {about['threads']} threads" if about["device"] == "cpu" else ""
    say(
        f"images of {size} (HxW), batch {about['batch']}, {about['precision']}{layout}, {about['device']}{threads}:",
        style="bold",
    )
    console.print(step_table(found.rows))
    said = [
        note for key, note in (("untrained", "untrained networks"), ("random_images", "noise for images")) if about[key]
    ]
    if said:
        say(f"measured with {' and '.join(said)}")
    say(
        f"the loop takes {found.ratio:.3f} (quartiles {found.ratio_iqr:.3f} apart) of a bare loop's time: "
        f"{found.loop_ms:.1f} and {found.bare_ms:.1f} ms, in {about['repeats']} turns"
    )
    say(f"with what it waits for data: {found.ratio_with_data:.3f}, {found.images_per_second:.1f} images/s")
    if found.peak_memory_mib is not None:
        say(f"peak memory {found.peak_memory_mib:.0f} MiB")
    save_json(args.json, {**found._asdict(), **content})
