"""``python -m avsrobust`` is the command `avsrobust`; so ``accelerate launch -m avsrobust train`` starts it on several GPUs."""

from avsrobust.cli.main import run

if __name__ == "__main__":
    run()
