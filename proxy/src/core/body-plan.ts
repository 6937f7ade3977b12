/** Which bytes of a blob an origin's answer carries: `start` … `end` inclusive, 0-based. */
export interface BodyPlan {
  readonly start: number;
  readonly end: number;
  readonly totalBytes: number;
  /** The body runs to the end of the blob by the client's wish, so the last piece waits for the whole digest. */
  readonly toEnd: boolean;
}

/** What of an answer the plan needs. `rangeHeader`: the client's, if it was sent on. */
export interface AnswerFacts {
  readonly status: number;
  readonly contentLength: number | undefined;
  readonly contentRange: string | undefined;
  readonly rangeHeader: string | undefined;
}

/** Plan of a whole or single-range body; undefined for one that cannot be taken up elsewhere (multipart). */
export function bodyPlan(facts: AnswerFacts): BodyPlan | undefined {
  const { status, contentLength } = facts;
  if (contentLength === undefined) return undefined;
  if (status === 200) return { start: 0, end: contentLength - 1, totalBytes: contentLength, toEnd: true };
  const range = parseContentRange(facts.contentRange);
  if (status !== 206 || range === undefined || range.end - range.start + 1 !== contentLength)
    return undefined;
  return { ...range, toEnd: /^bytes\s*=\s*\d+-\s*$/i.test(facts.rangeHeader ?? '') };
}

/** `Range` that asks for what is left after `sentBytes` of the plan. */
export function restRange(plan: BodyPlan, sentBytes: number): string {
  const from = plan.start + sentBytes;
  return plan.toEnd ? `bytes=${from}-` : `bytes=${from}-${plan.end}`;
}

/** True if an answer carries exactly the rest of the plan. */
export function isRest(plan: BodyPlan, sentBytes: number, facts: AnswerFacts): boolean {
  const range = parseContentRange(facts.contentRange);
  if (facts.status !== 206 || range === undefined) return false;
  return (
    range.start === plan.start + sentBytes && range.end === plan.end && range.totalBytes === plan.totalBytes
  );
}

function parseContentRange(
  header: string | undefined,
): { start: number; end: number; totalBytes: number } | undefined {
  const found = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(header ?? '');
  if (found === null) return undefined;
  const [start, end, totalBytes] = found.slice(1).map(Number) as [number, number, number];
  return end < start || end >= totalBytes ? undefined : { start, end, totalBytes };
}
