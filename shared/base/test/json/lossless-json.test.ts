import t from 'tap';
import { parseObject } from '../../src/json/lossless-json.ts';

t.test('numbers that a double cannot hold are written as they were read', async (t) => {
  const text = '{"a":12345678901234567890,"b":1e2,"c":[0.5,7],"d":{"e":9007199254740993}}';
  t.equal(JSON.stringify(parseObject(Buffer.from(text))), text);
});

t.test('what is no JSON object is none', async (t) => {
  for (const bytes of ['[]', 'null', '1', '{', '\xff', '{"a":"\xff"}'].map((text) =>
    Buffer.from(text, 'latin1'),
  ))
    t.equal(parseObject(bytes), undefined);
});
