import t from 'tap';
import { type AnswerFacts, bodyPlan, isRest, restRange } from '../../src/core/body-plan.ts';

function facts(
  status: number,
  contentLength?: number,
  contentRange?: string,
  rangeHeader?: string,
): AnswerFacts {
  return { status, contentLength, contentRange, rangeHeader };
}

t.test('a whole body can be taken up to its open end', async (t) => {
  const plan = bodyPlan(facts(200, 1000))!;
  t.same(plan, { start: 0, end: 999, totalBytes: 1000, toEnd: true });
  t.equal(restRange(plan, 10), 'bytes=10-');
  t.ok(isRest(plan, 10, facts(206, 990, 'bytes 10-999/1000')));
});

t.test('a bounded range is taken up to its own end', async (t) => {
  const plan = bodyPlan(facts(206, 100, 'bytes 50-149/1000', 'bytes=50-149'))!;
  t.same(plan, { start: 50, end: 149, totalBytes: 1000, toEnd: false });
  t.equal(restRange(plan, 20), 'bytes=70-149');
  t.ok(bodyPlan(facts(206, 950, 'bytes 50-999/1000', 'bytes=50-'))!.toEnd);
  t.notOk(bodyPlan(facts(206, 500, 'bytes 500-999/1000', 'bytes=-500'))!.toEnd);
});

t.test('what cannot be taken up has no plan', async (t) => {
  for (const one of [
    facts(200),
    facts(206, 300, undefined, 'bytes=0-9,20-29'),
    facts(206, 99, 'bytes 50-149/1000', 'bytes=50-149'),
    facts(206, 100, 'bytes 149-50/1000'),
    facts(206, 100, 'bytes 950-1049/1000'),
    facts(206, 100, 'bytes 50-149/*'),
  ]) {
    t.equal(bodyPlan(one), undefined, JSON.stringify(one));
  }
});

t.test('an answer that is not exactly the rest is not taken', async (t) => {
  const plan = bodyPlan(facts(206, 100, 'bytes 50-149/1000', 'bytes=50-149'))!;
  for (const [status, range] of [
    [200, undefined],
    [206, 'bytes 71-149/1000'],
    [206, 'bytes 70-148/1000'],
    [206, 'bytes 70-149/1001'],
  ] as const) {
    t.notOk(isRest(plan, 20, facts(status, 80, range)), String(range));
  }
  t.ok(isRest(plan, 20, facts(206, 80, 'bytes 70-149/1000')));
});
