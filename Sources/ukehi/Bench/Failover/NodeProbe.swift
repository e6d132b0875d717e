// One node, asked by itself: what it believes, and what it has applied.

import NIOCore
import NIOPosix
import Ukehi
import UkehiBase
import UkehiEnvironment
import UkehiNode
import UkehiPOSIX
import UkehiTransport

/// Asks one node, whoever leads. Used by one task.
final class NodeProbe {
    private let address: String
    private let clock = SystemClock()
    private var connection: ClientConnection?

    init(address: String) { self.address = address }

    private func ask(_ operation: ClientOperation, key: Bytes) async -> Reply? {
        if connection?.isOpen != true {
            guard let place = EndpointText(address) else { return nil }
            connection = try? await ClientConnection.connect(
                host: place.host, port: place.port,
                on: MultiThreadedEventLoopGroup.singleton.next(), clock: clock,
                label: "ukehi bench")
        }
        return await connection?.ask(
            operation, key: key, deadline: clock.now() + 2_000_000_000)
    }

    /// The cluster as the node sees it; nil while it cannot be asked.
    func topology() async -> Topology? {
        guard case .topology(let topology) = await ask(.topology, key: Bytes()) else { return nil }
        return topology
    }

    /// Whether the node itself has applied the write of `key`.
    func has(_ key: Bytes) async -> Bool {
        guard case .value(.some) = await ask(.get(.stale), key: key) else { return false }
        return true
    }

    func close() async { await connection?.close() }
}
