// For programs that use the package without this library in their own settings.
/// <reference lib="esnext.disposable" preserve="true" />

// Node before 20.5 lacks the symbols that `using` and `await using` look up. Imported before any class that has them.
for (const name of ['dispose', 'asyncDispose'] as const) {
  if (!(name in Symbol)) Object.defineProperty(Symbol, name, { value: Symbol(`Symbol.${name}`) });
}

export {};
