/** What the names of an expert's sums end with; `expert` is `count` for the shared one. */
export const ofExpert = (expert: number, count: number): string =>
  expert < count ? ` of expert ${expert}` : ' of the shared expert';
