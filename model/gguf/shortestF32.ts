/** The shortest decimal that rounds to this f32, e.g. 1e-5 for the stored 9.999999747378752e-06. */
export function shortestF32(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}
