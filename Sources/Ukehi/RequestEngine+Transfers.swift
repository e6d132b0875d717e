// Questions about what one node does just now, as an embedder or client asks them.

internal import Synchronization
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
        // Who was asked may not have heard of a node that others have told this client of.
        let listed = topology.nodes.first { $0.node == node }?.address
        guard let address = listed ?? cache.withLock({ $0.address(of: node) }) else {
            let names = topology.nodes.map { "\($0.node)" }.joined(separator: ", ")
            throw .rejected(.invalid("The cluster has no node \(node). It has \(names)."))
        }
        var request = EngineRequest(operation: operation, key: Bytes(), isWrite: false)
        request.anyReplica = isOwn(node)
        if !request.anyReplica { request.address = address }
        return try await perform(request, until: deadline)
    }
}
