/**
 * Hears of a record that changed, after it is durable: its key space, its key behind the space, what was stored and
 * what is (undefined: nothing).
 */
export type OnRecord = (space: string, key: string, before: unknown, after: unknown) => void;
