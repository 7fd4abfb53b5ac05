"""Video files through PyAV: what the header says, when frames are shown, and the frames."""

from sightline.data.videos.load import each_frame, load_frames
from sightline.data.videos.probe import VideoInfo, probe_video

__all__ = ["VideoInfo", "each_frame", "load_frames", "probe_video"]
