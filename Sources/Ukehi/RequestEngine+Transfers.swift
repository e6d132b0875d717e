// Questions about a node's snapshot transfers, as an embedder or client asks them.

internal import UkehiBase
internal import UkehiNode

extension RequestEngine {
    /// Asks one node, wherever it is.
    func snapshotTransfers(
        on node: NodeID, timeout: Duration
    ) async throws(RequestError) -> [SnapshotTransferInfo] {
        let deadline = deadline(timeout)
        let topology = try await refresh(until: deadline)
        guard let known = topology.nodes.first(where: { $0.node == node }) else {
            let names = topology.nodes.map { "\($0.node)" }.joined(separator: ", ")
            throw .rejected(.invalid("The cluster has no node \(node). It has \(names)."))
        }
        var request = EngineRequest(operation: .transfers, key: Bytes(), isWrite: false)
        request.anyReplica = isOwn(node)
        if !request.anyReplica { request.address = known.address }
        guard case .transfers(let transfers) = try await perform(request, until: deadline) else {
            throw .rejected(.unavailable("the node answered something else"))
        }
        return transfers
    }
}
