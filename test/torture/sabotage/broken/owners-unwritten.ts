import * as shipped from '@sepia/records/register/register-client';

export * from '@sepia/records/register/register-client';

/** A proposer that writes to its own acceptor alone, and counts every owner that is there. */
export class RegisterClient extends shipped.RegisterClient {
  constructor(...[deps, options]: ConstructorParameters<typeof shipped.RegisterClient>) {
    const transport: shipped.RegisterClientDeps['transport'] = async (id, request, ...rest) => {
      if (request.type !== 'accept' || id === options.proposerId)
        return await deps.transport(id, request, ...rest);
      const { ballot: _, value: __, ...asked } = request;
      const { sender } = await deps.transport(id, { ...asked, type: 'read' }, ...rest);
      return { type: 'accepted', sender };
    };
    super({ ...deps, transport }, options);
  }
}
