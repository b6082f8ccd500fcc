import { type Device, ensure, type Form, tableOf, text } from '../../engine/index.js';

/** The fastest variant by kernel and class of shapes, as measured on a device. */
export type Tuning = Readonly<Record<string, Readonly<Record<string, string>>>>;

/** A tuned variant; its name is looked up once. */
interface Tuned {
  readonly name: string;
  variant?: unknown;
}

const tunings = new WeakMap<Device, ReadonlyMap<string, ReadonlyMap<string, Tuned>>>();

/**
 * Makes the kernels on this device use the variants that `rm-engine tune` measured as fastest. Variants that the device
 * cannot run are ignored.
 *
 * @throws RmError INVALID_ARGUMENT when `tuning` has another form.
 */
export function applyTuning(device: Device, tuning: Tuning): void {
  const problem = tuningForm(tuning, 'tuning');
  ensure(problem === undefined, `${problem}`, 'Map kernel -> shape class -> variant, or run: rm-engine tune');
  const kernels = Object.entries(tuning).map(([kernel, classes]) => {
    const tuned = Object.entries(classes).map(([shapeClass, name]) => [shapeClass, { name }] as const);
    return [kernel, new Map<string, Tuned>(tuned)] as const;
  });
  tunings.set(device, new Map(kernels));
}

/** Returns the tuning that `applyTuning` set for this device. */
export const tuningOf = (device: Device): Tuning =>
  Object.fromEntries(
    [...(tunings.get(device) ?? [])].map(([kernel, classes]) => [
      kernel,
      Object.fromEntries([...classes].map(([shapeClass, { name }]) => [shapeClass, name])),
    ]),
  );

/** The form of a tuning in a file. */
export const tuningForm: Form<Tuning> = tableOf(tableOf(text));

/**
 * Returns the variant measured for this class of shapes, if there is one and it runs for this shape. Every dispatch calls
 * this, so each argument function is called only when its result is needed.
 *
 * @param variants the variants of this shape on this device.
 * @param runs whether a variant, perhaps found for another shape of the class, runs for this one.
 */
export function tunedVariant<V>(
  device: Device,
  kernel: string,
  shapeClass: () => string,
  variants: () => readonly V[],
  nameOf: (variant: V) => string,
  runs: (variant: V) => boolean,
): V | undefined {
  const tuned = tunings.get(device)?.get(kernel)?.get(shapeClass());
  if (!tuned) return undefined;
  tuned.variant ??= variants().find(variant => nameOf(variant) === tuned.name);
  const variant = tuned.variant as V | undefined;
  return variant !== undefined && runs(variant) ? variant : undefined;
}

/** Rounds an extent to a power of four, so that similar extents share a class: 4, 16, ... 65536. */
export const extentClass = (extent: number): number => 4 ** Math.round(Math.log2(Math.max(1, extent)) / 2);
