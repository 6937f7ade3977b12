import t from 'tap';
import { FetchPace } from '../../../src/fetch/core/fetch-pace.ts';

const OPTIONS = { progressMs: 10_000, firstByteMs: 60_000, lingerMs: 60_000 };
const HUNGRY = { hungry: true, readers: 1, avoiding: false };

t.test('an upstream that thinks is waited for until first-byte, one that is silent is not', async (t) => {
  const pace = new FetchPace(OPTIONS, 0);
  t.equal(pace.tick({ ...HUNGRY, thinking: true }, 60_000), 'go-on');
  t.equal(pace.tick({ ...HUNGRY, thinking: true }, 60_001), 'late');
  t.equal(pace.tick({ ...HUNGRY, thinking: false }, 10_001), 'late');
});

t.test('once it began, silence counts from the last byte', async (t) => {
  const pace = new FetchPace(OPTIONS, 0);
  pace.progress(1, 40_000);
  t.equal(pace.tick({ ...HUNGRY, thinking: false }, 50_000), 'go-on');
  t.equal(pace.tick({ ...HUNGRY, thinking: false }, 50_001), 'late');
});

t.test('a short first-byte never shortens what progress allows', async (t) => {
  const pace = new FetchPace({ ...OPTIONS, firstByteMs: 1_000 }, 0);
  t.equal(pace.tick({ ...HUNGRY, thinking: true }, 10_000), 'go-on');
  t.equal(pace.tick({ ...HUNGRY, thinking: true }, 10_001), 'late');
});

t.test('single bytes are no progress until they are many', async (t) => {
  const pace = new FetchPace(OPTIONS, 0);
  pace.progress(1, 0);
  for (let atMs = 1_000; atMs <= 10_000; atMs += 1_000) {
    pace.progress(1, atMs);
    t.equal(pace.tick({ ...HUNGRY, thinking: false }, atMs), 'go-on');
  }
  t.equal(pace.tick({ ...HUNGRY, thinking: false }, 10_001), 'late');
  pace.progress(1_013, 10_001);
  t.equal(pace.tick({ ...HUNGRY, thinking: false }, 10_001), 'late');
  pace.progress(1, 10_001);
  t.equal(pace.tick({ ...HUNGRY, thinking: false }, 20_001), 'go-on');
  pace.progress(1, 20_002);
  t.equal(pace.tick({ ...HUNGRY, thinking: false }, 20_002), 'late', 'and counted anew');
});
