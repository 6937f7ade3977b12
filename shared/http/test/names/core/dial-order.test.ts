import t from 'tap';
import { inDialOrder } from '../../../src/names/core/dial-order.ts';

const of = (...addresses: readonly string[]) =>
  addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));

t.test('addresses are dialled as they came, the families in turn', async (t) => {
  t.same(inDialOrder([]), []);
  t.same(inDialOrder(of('10.0.0.1', '10.0.0.2')), of('10.0.0.1', '10.0.0.2'));
  t.same(
    inDialOrder(of('fd00::1', 'fd00::2', 'fd00::3', '10.0.0.1')),
    of('fd00::1', '10.0.0.1', 'fd00::2', 'fd00::3'),
  );
  t.same(inDialOrder(of('10.0.0.1', 'fd00::1', 'fd00::2')), of('10.0.0.1', 'fd00::1', 'fd00::2'));
});
