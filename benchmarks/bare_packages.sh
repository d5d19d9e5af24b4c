#!/usr/bin/env bash
# The packages that a bare GPU machine lacks, unpacked into a folder, in the versions of constraints.txt: WHEELS of gpu.sh.
# Such a machine has Python with torch, accelerate, numpy, scipy, pandas, scikit-learn, numba, Pillow, tensorboard and what they need.
#
#     benchmarks/bare_packages.sh FOLDER              # for Python 3.12 on x86-64 Linux; needs pip and its registry
#     PYTHON_VERSION=3.13 benchmarks/bare_packages.sh FOLDER
#
# pyarrow goes without Flight, S3, Gandiva and headers, which are not imported. As tar.xz: some 36 MB.
set -euo pipefail

FOLDER=${1:?usage: benchmarks/bare_packages.sh FOLDER}
PYTHON=${PYTHON:-python3}
PYTHON_VERSION=${PYTHON_VERSION:-3.12}
CONSTRAINTS=$(cd "$(dirname "$0")/.." && pwd)/constraints.txt
NAMES=(
    annotated-types audioread cffi decorator librosa platformdirs pooch pyarrow pycocotools pycparser pydantic pydantic-core pydub
    pyloudnorm resampy rich soundfile soxr transformers typing-inspection
)
PLATFORMS=()
for glibc in 28 27 24 17; do PLATFORMS+=(--platform "manylinux_2_${glibc}_x86_64"); done
PLATFORMS+=(--platform manylinux2014_x86_64)

[ ! -e "$FOLDER" ] || { echo "$FOLDER: is there already; name a new folder" >&2; exit 2; }
versions=()
for name in "${NAMES[@]}"; do
    line=$(grep -iE "^${name//-/[-_]}==[^ ;]+" "$CONSTRAINTS" | head -n 1 | cut -d' ' -f1)
    [ -n "$line" ] || { echo "$CONSTRAINTS: found no version of $name" >&2; exit 1; }
    versions+=("$line")
done
"$PYTHON" -m pip install --quiet --no-deps --no-compile --only-binary=:all: --target "$FOLDER" \
    --implementation cp --python-version "$PYTHON_VERSION" "${PLATFORMS[@]}" "${versions[@]}"
rm -rf "$FOLDER/bin"
(cd "$FOLDER/pyarrow" && rm -rf include includes src tests -- *.pyx *.pxi *.pxd libarrow_flight* libarrow_python_flight* libarrow_s3* \
    libgandiva* _flight* _s3fs* gandiva* _pyarrow_cpp_tests*)
find "$FOLDER" -name tests -type d -prune -exec rm -rf {} +
du -sh "$FOLDER"
