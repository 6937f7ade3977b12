/**
 * Whether an origin asks other origins for what it does not have. `skip`: one of them asks, which asked around itself, or
 * who was named as the holder did not answer. So no question goes in a circle.
 */
export type Others = 'ask' | 'skip';
