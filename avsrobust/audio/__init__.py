"""Files to waveforms to log-mels: reading sounds, resampling, and the front ends of VGGish and of AVSBench-Robust."""
