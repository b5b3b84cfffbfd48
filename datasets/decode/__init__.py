"""From files of somebody else's making to arrays: sound, video, pictures, numbers."""
