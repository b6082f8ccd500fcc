/** Formats bytes in binary units: 1536 -> "1.50 KiB". */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  // toPrecision would write 1000 as 1.00e+3.
  const digits = unit === 0 || value >= 100 ? `${Math.round(value)}` : value.toPrecision(3);
  return `${digits} ${units[unit]}`;
}

/** Formats seconds: 75 -> "1 min 15 s". */
export function formatSeconds(seconds: number): string {
  if (!Number.isFinite(seconds)) return 'unknown time';
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** A number with `precision` significant digits and never an exponent: 1234.5 -> "1235", 0.0000123 -> "0.0000123". */
export function formatNumber(value: number, precision = 3): string {
  if (value === 0 || !Number.isFinite(value)) return `${value}`;
  // Rounding may add a digit: 999.6 has the exponent of 1000.
  const exponent = Number(value.toExponential(precision - 1).split('e')[1]);
  const places = precision - 1 - exponent;
  return places >= 0 ? value.toFixed(Math.min(places, 100)) : BigInt(Math.round(value)).toString();
}

/** "1 tensor", "2 tensors", "1,024 tokens". */
export const plural = (count: number, noun: string): string =>
  `${count.toLocaleString('en-US')} ${noun}${count === 1 ? '' : 's'}`;

/** "1,024 tokens/s", "35.2 tokens/s". */
export const formatRate = (perSecond: number, unit: string): string =>
  `${perSecond >= 1000 ? Math.round(perSecond).toLocaleString('en-US') : formatNumber(perSecond)} ${unit}/s`;
