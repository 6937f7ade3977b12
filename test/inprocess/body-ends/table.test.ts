import { ociError, type Watched, watchedGet } from '@sepia/test-support/clients/watched-get';
import { type ColdLayer, MIB, PATIENT, PullThrough } from '@sepia/test-support/cluster/pull-through';
import { until } from '@sepia/test-support/until';
import type { Misbehaviour, Rule } from '@sepia/test-support/upstream/misbehave';
import t, { type Test } from 'tap';

/** Deadlines of the table, shorter: 2 s before the first byte, 6 s in mid-body, at agents and proxies. */
const QUICK = {
  origin: { deadlines: { 'fetch-progress': '2s', 'first-byte': '2s', 'body-stall': '8s', drain: '1s' } },
  agent: {
    deadlines: { 'download-progress': '4s', 'body-stall': '6s' },
    'back-to-source': { mode: 'never' },
  },
  proxy: { limits: { 'body-stall': '6s' } },
};

/** Where a body ends well only the origin loses patience, and asks anew: what a busy machine needs is waited for. */
const ENDS_WELL = {
  ...PATIENT,
  origin: { deadlines: { ...PATIENT.origin.deadlines, 'fetch-progress': '5s' } },
  proxy: { limits: { 'body-stall': '25s' } },
};

const SIZE = 3 * MIB + 77;
/** What clients ask for, and what of the content that is. */
const FORMS = [
  { form: 'whole', range: undefined, start: 0, end: SIZE, isWhole: true },
  { form: 'open-ended range', range: `bytes=${MIB / 2}-`, start: MIB / 2, end: SIZE, isWhole: false },
  { form: 'bounded range', range: `bytes=100-${2 * MIB}`, start: 100, end: 2 * MIB + 1, isWhole: false },
] as const;
type Form = (typeof FORMS)[number];

interface Asked {
  readonly door: string;
  readonly layer: ColdLayer;
  readonly form: Form;
  /** Fetches of it that ended, as far as the log tells: their lines may come after the answer. */
  readonly fetches: () => number;
}

interface Row {
  readonly situation: string;
  readonly does: readonly {
    readonly what: Misbehaviour;
    readonly when?: Omit<Rule, 'kind' | 'path' | 'does'>;
  }[];
  /** It ends by a deadline. */
  readonly isGivenUp?: boolean;
  /** It was pulled before through the same door. */
  readonly isWarm?: boolean;
  readonly check: (t: Test, answer: Watched, asked: Asked) => void | Promise<void>;
}

function expected({ content }: ColdLayer, { start, end }: Form): Buffer {
  return content.subarray(start, end);
}

const isRight: Row['check'] = (t, answer, { layer, form }) => {
  t.equal(answer.status, form.range === undefined ? 200 : 206);
  t.equal(answer.cut, false);
  t.ok(answer.bytes.equals(expected(layer, form)), 'right bytes');
};

/** At proxies the word of the one origin that waited for the upstream was taken: no other waited as long once more. */
const isUnavailable: Row['check'] = async (t, answer, { door, fetches }) => {
  t.equal(answer.status, 503);
  t.equal(answer.cut, false);
  t.equal(ociError(answer).code, 'UNAVAILABLE');
  t.match(answer.headers['retry-after'], /^\d+$/);
  if (door !== 'proxy') return;
  await until(() => fetches() > 0, 'its fetch ended');
  t.equal(fetches(), 1, 'fetches that ended');
};

const isCut: Row['check'] = (t, answer, { layer, form }) => {
  t.ok(answer.status === 200 || answer.status === 206, `${answer.status}`);
  t.equal(answer.cut, true);
  const got = answer.bytes;
  t.ok(
    got.length > 0 && got.equals(expected(layer, form).subarray(0, got.length)),
    'right as far as it goes',
  );
};

const deadEnd = (situation: string, what: Misbehaviour): Row => ({
  situation: `nothing can serve: the upstream ${situation}`,
  isGivenUp: true,
  does: [{ what }],
  check: isUnavailable,
});

const ROWS: readonly Row[] = [
  deadEnd('says 500', { type: 'status', status: 500 }),
  deadEnd('resets', { type: 'reset' }),
  deadEnd('is silent', { type: 'silent' }),
  deadEnd('sends headers and no byte', { type: 'stall', afterBytes: 0 }),
  {
    situation: 'the upstream says 404',
    does: [{ what: { type: 'status', status: 404 } }],
    check: (t, answer) => {
      t.equal(answer.status, 404);
      t.equal(ociError(answer).code, 'BLOB_UNKNOWN');
    },
  },
  {
    situation: 'the upstream says 403',
    does: [{ what: { type: 'status', status: 403 } }],
    check: (t, answer) => t.equal(answer.status, 403),
  },
  {
    situation: 'the upstream answers 500 twice, cuts twice, then sends',
    does: [
      { what: { type: 'status', status: 500 }, when: { times: 2 } },
      { what: { type: 'cut', afterBytes: MIB + 300_000 }, when: { skip: 2, times: 2 } },
    ],
    check: isRight,
  },
  {
    situation: 'no progress in mid-body for longer than a fetch waits, then the upstream goes on',
    does: [{ what: { type: 'stall', afterBytes: MIB + MIB / 2 + 9 }, when: { times: 1 } }],
    check: isRight,
  },
  {
    situation: 'no progress in mid-body, ever: cut',
    isGivenUp: true,
    does: [
      { what: { type: 'stall', afterBytes: MIB + MIB / 2 + 9 }, when: { times: 1 } },
      { what: { type: 'silent' }, when: { skip: 1 } },
    ],
    check: isCut,
  },
  {
    situation: 'single bytes in mid-body, then another connection brings the rest',
    does: [{ what: { type: 'drip', afterBytes: MIB + MIB / 2 + 9, everyMs: 100 }, when: { times: 1 } }],
    check: isRight,
  },
  {
    situation: 'single bytes in mid-body, ever: cut',
    isGivenUp: true,
    does: [
      { what: { type: 'drip', afterBytes: MIB + MIB / 2 + 9, everyMs: 100 } },
      { what: { type: 'ignore-range' } },
    ],
    check: isCut,
  },
  deadEnd('sends headers and single bytes', { type: 'drip', afterBytes: 0, everyMs: 100 }),
  {
    situation: 'the upstream is slow: waited for while it sends, headers first',
    does: [{ what: { type: 'slow', bytesPerSec: MIB / 3 } }],
    check: isRight,
  },
  {
    situation: 'what the cluster has is served without the upstream',
    isWarm: true,
    does: [{ what: { type: 'silent' } }],
    check: isRight,
  },
];

for (const [how, options, isGivenUp] of [
  ['well', ENDS_WELL, false],
  ['by a deadline', QUICK, true],
] as const)
  t.test(`how a body ends ${how}, at agents and proxies, row by row`, async (t) => {
    await using here = await PullThrough.start(t.testdir(), options);
    const doors = { agent: here.cluster.agents[0]!.url, proxy: here.cluster.proxyUrls[0]! };
    const ended = ({ digest }: ColdLayer): number =>
      here.log.matching(/^fetch ended$/).filter((line) => line['digest'] === digest).length;
    for (const { situation, does, check, isWarm } of ROWS.filter(
      (row) => (row.isGivenUp === true) === isGivenUp,
    ))
      await t.test(situation, async (t) => {
        const asked = Object.entries(doors).flatMap(([door, url]) =>
          FORMS.map((form) => ({ door, url, form })),
        );
        const answers = await Promise.all(
          asked.map(async ({ url: door, form }) => {
            const layer = await here.hinted(SIZE);
            const url = `${door}/v2/${layer.repository}/blobs/${layer.digest}`;
            if (isWarm === true) t.ok((await watchedGet(url)).bytes.equals(layer.content), 'pulled before');
            for (const { what, when } of does) layer.misbehave(what, when);
            const headers = form.range === undefined ? {} : { range: form.range };
            return { layer, answer: await watchedGet(url, headers) };
          }),
        );
        for (const [at, { layer, answer }] of answers.entries()) {
          const { door, form } = asked[at]!;
          await t.test(`${door}, ${form.form}`, async (t) => {
            await check(t, answer, { door, layer, form, fetches: () => ended(layer) });
          });
        }
      });
  });
