"""What can be seen of the pictures of a job while it runs."""

from PIL import Image

from app.job import JobView


def preview_pictures(view: JobView, scale: int = 1) -> list[Image.Image]:
    """A picture of each image that the latest step was about, a latent pixel as `scale` x `scale`.

    Those that the engine sent are as large as they came; none where there is nothing to see.
    """
    event = view.event
    if event is None or event.previews:
        return [] if event is None else list(event.previews)
    # Not every engine has its model on this machine.
    preview = getattr(getattr(view.engine, "model", None), "preview", None)
    if preview is None or event.denoised is None:
        return []
    from pipelines.preview import preview_images  # torch, which the worker has loaded by now

    return preview_images(preview, event.denoised, scale)
