"""The bundled model family: an audio-prompted Mask2Former, plain, debiased and trained for robustness. See README.md."""
