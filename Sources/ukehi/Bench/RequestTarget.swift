// Where a lane of clients sends its requests: a node in this process, or a connection to one.

import NIOCore
import Synchronization
import UkehiBase
import UkehiNode
import UkehiPOSIX
import UkehiTransport

/// One node as clients see it. A class to be subclassed: one virtual call per batch of requests.
class RequestTarget: @unchecked Sendable {
    // Safety: subclasses hold nothing but constants.

    /// Hands over requests; replies go to their sinks, refusals perhaps before this returns.
    /// Leaves the array empty with its room.
    func submit(_ requests: inout [ClientRequest]) { fatalError("a target takes requests") }

    /// The regions as the node knows them; nil while it cannot be asked.
    func topology() async -> Topology? { fatalError("a target knows its topology") }
}

/// A node of this process.
final class NodeTarget: RequestTarget, @unchecked Sendable {
    private let core: NodeCore

    init(_ core: NodeCore) { self.core = core }

    override func submit(_ requests: inout [ClientRequest]) { core.submit(batch: &requests) }

    override func topology() async -> Topology? { core.topology }
}

/// A running node, reached by a connection that is made again when it was lost.
final class ConnectionTarget: RequestTarget, @unchecked Sendable {
    // Safety: `connection` is behind its mutex; the rest never changes.
    private let endpoint: HostPort
    private let loop: any EventLoop
    private let connection: Mutex<ClientConnection>

    private init(endpoint: HostPort, loop: any EventLoop, connection: ClientConnection) {
        self.endpoint = endpoint
        self.loop = loop
        self.connection = Mutex(connection)
    }

    /// Connects.
    ///
    /// - Throws: ``BenchFailure`` with the endpoint and the reason.
    static func connect(
        _ endpoint: String, on loop: any EventLoop
    ) async throws -> ConnectionTarget {
        guard let place = HostPort(endpoint) else {
            throw BenchFailure("Nothing was started: \(endpoint) is no HOST:PORT.")
        }
        do {
            return ConnectionTarget(
                endpoint: place, loop: loop, connection: try await dial(place, on: loop))
        } catch {
            throw BenchFailure("Nothing was started: \(endpoint) cannot be reached: \(error)")
        }
    }

    private static func dial(
        _ place: HostPort, on loop: any EventLoop
    ) async throws -> ClientConnection {
        try await ClientConnection.connect(
            host: place.host, port: place.port, on: loop, clock: SystemClock(),
            label: "ukehi bench")
    }

    private var current: ClientConnection { connection.withLock { $0 } }

    override func submit(_ requests: inout [ClientRequest]) {
        let connection = current
        for request in requests { connection.submit(request) }
        requests.removeAll(keepingCapacity: true)
    }

    /// Connects again if the connection was lost; nil while that fails.
    override func topology() async -> Topology? {
        if !current.isOpen {
            guard let fresh = try? await ConnectionTarget.dial(endpoint, on: loop) else {
                return nil
            }
            connection.withLock { $0 = fresh }
        }
        guard case .topology(let topology) = await current.ask(.topology, key: Bytes()) else {
            return nil
        }
        return topology
    }

    func close() async { await current.close() }
}
