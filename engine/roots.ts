/** Adapters and devices that are in use: Dawn's objects must stay referenced until then (crbug 387965810). */
export const roots = new Set<object>();
