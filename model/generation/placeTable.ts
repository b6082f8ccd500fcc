/** What a table of places does with the cache: `Decoder` for a model, a fake in tests. */
export interface PlaceStore {
  lengthOf(place: number): number;
  roomOf(place: number): number;
  resize(place: number, room: number): void;
  /** Makes memory for so many tokens in all, at most for `most`. */
  reserve(rows: number, most: number): void;
  common(place: number, tokens: readonly number[]): number;
  begin(place: number, from: number, count: number): void;
}

/** Fewer tokens are computed again rather than copied. */
const LEAST_COPIED = 16;

interface Place {
  readonly at: number;
  busy: boolean;
  /** When a text last left it; 0 where none has been. */
  left: number;
}

/**
 * Hands out places of a KV cache within a number of tokens. A place that a text has left keeps its tokens for a text that
 * begins alike, until the room is needed: the one left longest ago goes first.
 */
export class PlaceTable {
  readonly #places: readonly Place[];
  #clock = 0;

  /** @param most tokens for which the places may have room together. */
  constructor(
    private readonly store: PlaceStore,
    places: number,
    readonly most: number,
  ) {
    this.#places = Array.from({ length: places }, (_, at) => ({ at, busy: false, left: 0 }));
  }

  /**
   * Gives a text a place with room for `room` tokens, and the tokens that it has in common with another.
   *
   * @returns the place, and how many tokens it has; undefined if there is no room now.
   */
  enter(tokens: readonly number[], room: number): { place: number; reused: number } | undefined {
    const { store } = this;
    const commons = this.#places.map(({ at }) => store.common(at, tokens));
    const longest = commons.indexOf(Math.max(...commons));
    // A place of which little would be left is worth more to a text of its own kind.
    const alike = this.#idle()
      .filter(({ at }) => commons[at]! > 0 && 2 * commons[at]! >= store.lengthOf(at))
      .sort((a, b) => commons[b.at]! - commons[a.at]!)[0];
    const place = alike ?? this.#idle()[0];
    if (!place) return undefined;
    const copies = commons[longest]! >= commons[place.at]! + LEAST_COPIED;
    if (copies) store.resize(place.at, 0);
    if (!this.grow(place.at, room)) return undefined;
    // The other place may have been emptied for this one.
    const from = copies && store.lengthOf(longest) >= commons[longest]! ? longest : place.at;
    const reused = Math.min(commons[from]!, store.lengthOf(from));
    store.begin(place.at, from, reused);
    place.busy = true;
    return { place: place.at, reused };
  }

  /** Gives a place room for `room` tokens, if need be that of places which texts have left; false if there is none. */
  grow(at: number, room: number): boolean {
    const { store, most } = this;
    const others = this.#places.filter(place => place.at !== at);
    const taken = (by: readonly Place[]) => by.reduce((sum, place) => sum + store.roomOf(place.at), room);
    if (taken(others.filter(({ busy }) => busy)) > most) return false;
    for (const idle of this.#idle()) {
      if (taken(others) <= most) break;
      if (idle.at !== at) store.resize(idle.at, 0);
    }
    store.reserve(taken(others), most);
    store.resize(at, room);
    return true;
  }

  /** A text leaves its place, which keeps its tokens for the present. */
  leave(at: number): void {
    const place = this.#places[at]!;
    place.busy = false;
    place.left = ++this.#clock;
  }

  /** Places without a text: those that were never used, then the one left longest ago. */
  #idle(): Place[] {
    return this.#places.filter(({ busy }) => !busy).sort((a, b) => a.left - b.left);
  }
}
