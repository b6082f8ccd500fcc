# rm-engine for NVIDIA GPUs; without a GPU it runs on the CPU (slow). docs/docker.md explains each part.
#   docker build -t rm-engine .
#   docker run --rm --gpus all rm-engine doctor
#   docker run --rm --gpus all -v "$PWD:/work" rm-engine prune model pruned --layers 4 --calib chat.jsonl

FROM node:20-trixie-slim AS build
WORKDIR /src
COPY package.json package-lock.json tsconfig.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY . .
# From a tarball npm ignores its npm-shrinkwrap.json, so the dependencies are those of package-lock.json directly.
RUN npm pack --pack-destination /tmp \
  && mkdir -p /opt/rm-engine/bin \
  && tar -xzf /tmp/rm-engine-*.tgz -C /opt/rm-engine --strip-components=1 \
  && npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
  && mv node_modules /opt/rm-engine/ \
  && chmod +x /opt/rm-engine/dist/cli/main.js \
  && ln -s ../dist/cli/main.js /opt/rm-engine/bin/rm-engine \
  # What draws plots and downloads models, where Node looks for it from there.
  && npm install --prefix /opt --no-audit --no-fund --ignore-scripts vega@6.4.0 vega-lite@6.4.3 @huggingface/hub@2.17.5 \
  # Remove binaries for other systems: Dawn's and the tokenizer's.
  && find /opt/rm-engine -path '*/webgpu/dist/*' -prune ! -name 'linux-*' -exec rm -rf {} + \
  && find /opt/rm-engine -path '*/tokenizers/*.node' ! -name '*.linux-*-gnu.node' -delete

FROM node:20-trixie-slim
# The Vulkan loader; the GL dispatch and X11 client libraries that NVIDIA's Vulkan driver links to, even without a screen;
# Mesa's lavapipe for machines without a GPU. Versions are not pinned: Debian's mirrors keep the newest only.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends \
    libegl1 libgl1 libgles2 libglvnd0 libglx0 libopengl0 libvulkan1 libx11-6 libxext6 mesa-vulkan-drivers \
  && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/rm-engine /opt/rm-engine
COPY --from=build /opt/node_modules /opt/node_modules
# Vulkan belongs to "graphics": without it the container runtime adds only CUDA.
ENV NVIDIA_VISIBLE_DEVICES=all \
  NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility \
  PATH=/opt/rm-engine/bin:$PATH \
  XDG_CACHE_HOME=/tmp/cache \
  XDG_RUNTIME_DIR=/tmp
# The user 'node' of the base image.
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["rm-engine"]
CMD ["doctor"]
