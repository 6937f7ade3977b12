import type { MemberClock } from '@sepia/base/clock/member-clock';
import type { Logger } from '@sepia/base/log';
import type { Metrics } from '@sepia/base/metrics';
import { createGate, type Gate, type GuardCheck } from './gate.ts';
import { type Guard, OPEN_ROUTES } from './open-routes.ts';
import { CallVerifier, type RefusedWhy } from './sign.ts';

const REASONS: readonly RefusedWhy[] = ['signature', 'date', 'recipient', 'replay', 'full'];

/** For which role the gate is, and what it checks calls with. */
export interface MemberGateDeps {
  readonly role: 'origin' | 'tracker' | 'proxy' | 'accelerator';
  readonly guards?: Readonly<Partial<Record<Guard, GuardCheck>>>;
  readonly clusterKey: Uint8Array;
  readonly selfId: string;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly clock: MemberClock;
  /** Takes the former form of signatures too. */
  readonly oldSignatures: boolean;
}

/** The gate of a role that members call, with what it refuses and remembers as metrics. One per process: it keeps the nonces. */
export function createMemberGate(deps: MemberGateDeps): Gate {
  const { role, guards = {}, clusterKey, selfId, log, metrics, clock, oldSignatures } = deps;
  const given = { clusterKey, selfId, log, nowMs: clock.nowMs, wallMs: clock.wallMs };
  const verifier = new CallVerifier(given, { oldSignatures });
  metrics.gauge('sepia_call_nonces', 'Nonces of signed calls remembered now.', () => verifier.nonces);
  const refused = metrics.counter(
    'sepia_calls_refused_total',
    'Calls of members refused at the gate: wrong signature, date, recipient, a replay, no room for nonces.',
    ['why'],
  );
  verifier.onRefused((why) => refused.inc({ why }));
  for (const why of REASONS) refused.inc({ why }, 0);
  return createGate({ open: OPEN_ROUTES[role], guards, verifier });
}
