# rm-engine on machines with NVIDIA GPUs, and without any GPU on the CPU (slow). docs/docker.md says what each part is for.
#   docker build -t rm-engine .
#   docker run --rm --gpus all rm-engine doctor
#   docker run --rm --gpus all -v "$PWD:/work" rm-engine prune model pruned --layers 4 --calib chat.jsonl

FROM node:20-trixie-slim AS build
WORKDIR /src
COPY package.json package-lock.json tsconfig.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY . .
RUN npm run build \
  && npm pack --ignore-scripts --pack-destination /tmp \
  && npm install --global --ignore-scripts --no-audit --no-fund --prefix /opt/rm-engine /tmp/rm-engine-*.tgz \
  # Dawn's binaries of other systems.
  && find /opt/rm-engine -path '*/webgpu/dist/*' -prune ! -name 'linux-*' -exec rm -rf {} +

FROM node:20-trixie-slim
# The Vulkan loader; the GL dispatch libraries and X11 client libraries that NVIDIA's Vulkan driver links to, with a
# screen or without; Mesa's lavapipe for machines without a GPU.
# Versions are Debian's: a mirror keeps the newest only.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends \
    libegl1 libgl1 libgles2 libglvnd0 libglx0 libopengl0 libvulkan1 libx11-6 libxext6 mesa-vulkan-drivers \
  && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/rm-engine /opt/rm-engine
# Vulkan is part of "graphics": without it the container runtime brings in CUDA alone.
ENV NVIDIA_VISIBLE_DEVICES=all \
  NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility \
  PATH=/opt/rm-engine/bin:$PATH \
  XDG_CACHE_HOME=/tmp/cache \
  XDG_RUNTIME_DIR=/tmp
# The image's own user 'node'.
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["rm-engine"]
CMD ["doctor"]
