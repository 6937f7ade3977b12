import type { VirtualClock } from './clock.ts';
import type { Network, Port } from './network.ts';

/** Whether a process answers, is dead (who calls is told so at once), or hangs (who calls hears nothing). */
export type Life = 'up' | 'killed' | 'stopped';

/** Who calls whom. Without a port a cut of the network does not touch them. */
interface Line {
  readonly from?: Port | undefined;
  readonly to?: Port | undefined;
  readonly life: () => Life;
  /** Who calls gives up after this. */
  readonly timeoutMs: number;
}

/** What came of a call. */
export type Outcome<T> =
  | { readonly type: 'answer'; readonly answer: T }
  | { readonly type: 'refused' | 'silent' };

/** One call over the network: `run` is at the other end and replies once, at once or later; `done` is told once what came. */
export function call<T>(
  stage: { readonly clock: VirtualClock; readonly network: Network },
  { from, to, life, timeoutMs }: Line,
  run: (reply: (answer: T) => void) => void,
  done: (outcome: Outcome<T>) => void,
): void {
  const { clock, network } = stage;
  let isOpen = true;
  const end = (outcome: Outcome<T>): void => {
    if (!isOpen) return;
    isOpen = false;
    done(outcome);
  };
  clock.at(clock.nowMs + timeoutMs, () => end({ type: 'silent' }));
  network.message(
    () => {
      if (life() === 'killed') network.message(() => end({ type: 'refused' }), to, from);
      if (life() !== 'up') return;
      run((answer) => {
        if (life() === 'up') network.message(() => end({ type: 'answer', answer }), to, from);
      });
    },
    from,
    to,
  );
}
