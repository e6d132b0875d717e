// Questions about what one node does just now, as an embedder or client asks them.

internal import UkehiBase
internal import UkehiNode

extension RequestEngine {
    func snapshotTransfers(
        on node: NodeID, timeout: Duration
    ) async throws(RequestError) -> [SnapshotTransferInfo] {
        guard case .transfers(let transfers) = try await ask(.transfers, of: node, timeout) else {
            throw .rejected(.unavailable("the node answered something else"))
        }
        return transfers
    }

    func regionLoads(
        on node: NodeID, _ question: LoadQuestion, timeout: Duration
    ) async throws(RequestError) -> [RegionLoadInfo] {
        guard case .loads(let loads) = try await ask(.loads(question), of: node, timeout) else {
            throw .rejected(.unavailable("the node answered something else"))
        }
        return loads
    }

    /// Asks one node, wherever it is.
    private func ask(
        _ operation: ClientOperation, of node: NodeID, _ timeout: Duration
    ) async throws(RequestError) -> Reply {
        let deadline = deadline(timeout)
        let topology = try await refresh(until: deadline)
        guard let known = topology.nodes.first(where: { $0.node == node }) else {
            let names = topology.nodes.map { "\($0.node)" }.joined(separator: ", ")
            throw .rejected(.invalid("The cluster has no node \(node). It has \(names)."))
        }
        var request = EngineRequest(operation: operation, key: Bytes(), isWrite: false)
        request.anyReplica = isOwn(node)
        if !request.anyReplica { request.address = known.address }
        return try await perform(request, until: deadline)
    }
}
