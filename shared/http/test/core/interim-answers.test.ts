import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { InterimAnswers } from '../../src/core/interim-answers.ts';

const CONTINUE = 'HTTP/1.1 100 Continue\r\n\r\n';
const HINTS = 'HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n';
const ANSWER = `HTTP/1.1 200 OK\r\nContent-Length: ${CONTINUE.length}\r\n\r\n${CONTINUE}`;

/** What is left of what came, one part for each of `chunks` of which something is. */
function leftOf(answers: InterimAnswers, chunks: readonly string[]): string[] {
  return chunks
    .map((chunk) => answers.rest(Buffer.from(chunk))?.toString())
    .filter((left) => left !== undefined);
}

t.test('interim answers before the final one are skipped, however they are cut', async (t) => {
  for (const before of ['', CONTINUE, HINTS, CONTINUE + HINTS + CONTINUE, 'HTTP/1.1 101 Upgrade\r\n\r\n']) {
    const all = before + ANSWER;
    fc.assert(
      fc.property(fc.array(fc.nat({ max: all.length })), (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), all.length];
        const chunks = at.slice(1).map((end, index) => all.slice(at[index], end));
        const answers = new InterimAnswers();
        answers.asked();
        return leftOf(answers, chunks).join('') === ANSWER;
      }),
    );
  }
  t.pass('held');
});

t.test('what is no answer to a request is left as it is', async (t) => {
  const answers = new InterimAnswers();
  t.same(leftOf(answers, [CONTINUE]), [CONTINUE], 'nothing was asked');
  answers.asked();
  t.same(leftOf(answers, [ANSWER, CONTINUE, 'H']), [ANSWER, CONTINUE, 'H'], 'behind the head of the answer');
  answers.asked();
  t.same(leftOf(answers, [CONTINUE, ANSWER]), [ANSWER], 'the next request on the connection');
});

t.test('a head without end is handed on', async (t) => {
  const answers = new InterimAnswers();
  answers.asked();
  const endless = `HTTP/1.1 100 ${'x'.repeat(20_000)}`;
  t.equal(answers.rest(Buffer.from(endless)), undefined);
  t.equal(answers.rest(Buffer.from(endless))?.length, 2 * endless.length);
  t.equal(answers.rest(Buffer.from(CONTINUE))?.toString(), CONTINUE);
});
