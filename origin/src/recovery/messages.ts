import type { FirstStart } from '@sepia/records/core/first-start';
import type { Generations } from '@sepia/records/core/standing';

/** What an origin says of itself: answer of `GET /v1/standing`. */
export interface StandingAnswer {
  readonly firstStart: FirstStart;
  readonly generation: number;
  readonly settled: boolean;
  /** Records of an earlier generation are still there; members of the version before do not say. */
  readonly kept?: boolean;
  readonly epoch: number;
}

/** Answer of `POST /v1/handover`. */
export type HandoverAnswer =
  | {
      readonly type: 'granted';
      readonly generation: number;
      readonly known: Generations;
      readonly epoch: number;
      /** It counts; members of the version before do not say. */
      readonly settled?: boolean;
      /** What the source promised and accepted about the membership after its own. */
      readonly agreement?: { readonly key: string; readonly state: unknown };
    }
  | { readonly type: 'outdated'; readonly known: number }
  | { readonly type: 'not-yet' };
