import t from 'tap';
import { Outages } from '../../../src/layers/core/outages.ts';

t.test('an outage lasts from its first refusal, over all reads of the layer', async (t) => {
  const outages = new Outages();
  t.equal(outages.refused('a', 0, 100), 0);
  t.equal(outages.refused('a', 2_000, 12_000), 11_900, 'a refusal may take long itself');
  t.equal(outages.refused('b', 12_000, 12_001), 0, 'each layer has its own');
  t.equal(outages.refused('a', 17_000, 17_001), 16_901);
});

t.test('it ends with bytes, and where nobody tried for a while', async (t) => {
  const outages = new Outages();
  outages.refused('a', 0, 0);
  outages.served('a');
  t.equal(outages.refused('a', 1_000, 1_000), 0);
  t.equal(outages.refused('a', 6_000, 6_500), 5_500);
  t.equal(outages.refused('a', 11_501, 11_502), 0);
});

t.test('of more layers than are kept the one that was refused longest ago is forgotten', async (t) => {
  const outages = new Outages();
  for (let layer = 0; layer < 1_000; layer++) outages.refused(String(layer), 0, 0);
  t.equal(outages.refused('0', 1, 1), 1);
  outages.refused('one more', 1, 1);
  t.equal(outages.refused('0', 2, 2), 2);
  t.equal(outages.refused('1', 2, 2), 0);
});
