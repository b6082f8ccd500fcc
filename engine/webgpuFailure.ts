import { reasonOf } from './reasons.js';

/** Explains why the binary of the webgpu package does not load, and how to mend it. */
export function explainBinaryFailure(message: string): { reason: string; cure: string } {
  const library = /(GLIBC(?:XX)?)_([\d.]+)['`’]? not found/.exec(message);
  if (library) {
    return {
      reason: `the webgpu package needs ${library[1]} ${library[2]}, this system has an older one`,
      cure: 'Use a system with glibc 2.34 and libstdc++ 6.0.30 or newer: Debian 12, Ubuntu 22.04, RHEL 9.',
    };
  }
  const shared = /([\w.+-]+\.so[\w.]*): cannot open shared object file/.exec(message);
  if (shared) {
    return {
      reason: `the library ${shared[1]} is missing`,
      cure: `Install the package that has ${shared[1]}.`,
    };
  }
  if (/Cannot find (module|package)|ENOENT|MODULE_NOT_FOUND/i.test(message)) {
    return {
      reason: `the webgpu package has no binary for ${process.platform} ${process.arch}, or is not installed`,
      cure: 'Run npm install again. There are binaries for Linux (x64, arm64, glibc), macOS and Windows (x64, arm64).',
    };
  }
  return {
    reason: `its binary does not load: ${reasonOf(message)}`,
    cure: 'Run npm install again, and rm-engine doctor for more.',
  };
}
