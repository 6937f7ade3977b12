import type { ErrorCode } from '@sepia/base/errors';

const ADVICE: Partial<Record<ErrorCode, string>> = {
  UPSTREAM_POLICY:
    'the registry has a rule against it (an immutable tag, a policy gate): change the rule, then retry; or give it up: sepia write-back give-up JOB',
  METHOD_UNSUPPORTED:
    'the registry does not delete this: delete it there by hand, then retry; or sepia write-back give-up JOB',
  WRITE_BACK_CONFLICT: 'say who wins: sepia write-back retry JOB --take ours, or --take theirs',
  MANIFEST_SYNTAX: 'the registry does not take such a manifest: sepia write-back give-up JOB',
  BACKEND_DOWN: 'nothing to do: it goes on when the registry answers',
  UPSTREAM_LIMITED: 'nothing to do: it goes on when the registry takes more requests',
  QUORUM_LOST: 'too few origins answer: see sepia status',
  UPSTREAM_LIES: 'the registry answers what it should not; look at its log',
};

/** What an operator does about a failure, undefined where there is nothing to add. `said`: the registry's own words. */
export function adviceFor(code: ErrorCode, said: string): string | undefined {
  if (code === 'UPSTREAM_DENIED')
    return /quota|exceed|storage/i.test(said)
      ? 'the quota of the project is used up: raise it or delete there, then retry'
      : 'give the account in `credentials` of every origin the right to push (and delete) there, then retry';
  return ADVICE[code];
}
