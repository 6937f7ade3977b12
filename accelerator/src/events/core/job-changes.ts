/** Jobs by id, each as the JSON text that clients are shown. */
export type JobTexts = ReadonlyMap<string, string>;

/** One event for a client: the present state of a job, or that it is no longer on record. */
export type JobChange =
  | { readonly type: 'job'; readonly id: string; readonly text: string }
  | { readonly type: 'gone'; readonly id: string };

/**
 * What brings a client from `before` to `now`: every job that is new or another, in the order of `now`, then those that
 * are gone. What happened between the two and did not last is not told.
 */
export function jobChanges(before: JobTexts, now: JobTexts): JobChange[] {
  const changes: JobChange[] = [];
  for (const [id, text] of now) if (before.get(id) !== text) changes.push({ type: 'job', id, text });
  for (const id of before.keys()) if (!now.has(id)) changes.push({ type: 'gone', id });
  return changes;
}
