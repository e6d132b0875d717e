// The real network of a node: one listening port for peers and clients, outgoing connections per
// lane and peer node.
//
//   other nodes ─ control, bulk ─▶ AcceptedSession ─▶ TransportEvents.received
//   clients ───── requests ──────▶ ClientService ───▶ TransportEvents.submit ─▶ replies
//   lanes ─ send(messages, node) ─▶ LaneLinks (lane's own loop) ─ control, bulk ─▶ other nodes
//
// INSECURE: connections are neither encrypted nor authenticated yet. Whoever reaches the port can
// read and write data and pose as a node. Use it only on a network that is trusted as a whole.

package import Logging
package import NIOCore
import NIOPosix
import Synchronization
package import UkehiBase
package import UkehiEnvironment
package import UkehiNode

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// The transport over TCP.
///
/// Safety: `@unchecked Sendable` by inheritance; all state is behind the mutex or never changes.
package final class NIOTransport: Transport, @unchecked Sendable {
    private struct State {
        var listener: (any Channel)?
        var events: (any TransportEvents)?
        var links: [LaneLinks] = []
        var accepted: [ObjectIdentifier: any Channel] = [:]
        var isStopped = false
    }

    private let host: String
    private let port: Int
    private let lanes: [any EventLoop]
    private let inbound: any EventLoopGroup
    private let clock: any NodeClock
    private let limits: WireLimits
    private let report: WireReport
    private let state = Mutex(State())

    /// - Parameters:
    ///   - host: The address to listen on.
    ///   - port: 0 lets the system choose; see ``listen()``.
    ///   - lanes: The event loop of each lane.
    ///   - inbound: Where accepted connections live; with one lane its own loop is best.
    package init(
        host: String, port: Int, lanes: [any EventLoop], inbound: any EventLoopGroup,
        clock: any NodeClock, logger: Logger, limits: WireLimits = .standard
    ) {
        self.host = host
        self.port = port
        self.lanes = lanes
        self.inbound = inbound
        self.clock = clock
        self.limits = limits
        report = WireReport(logger: logger)
        super.init()
    }

    package var statistics: TransportStatistics { report.statistics }

    /// Binds the port; connections wait until ``start(_:peers:)``. Returns the port. Blocks, so
    /// never called on an event loop.
    @discardableResult
    package func listen() throws -> Int {
        if let port = state.withLock({ $0.listener?.localAddress?.port }) { return port }
        let listener: any Channel
        do {
            listener = try WireChannels.server(
                acceptor: lanes[0], children: inbound, limits: limits
            )
            .childChannelInitializer { [self] channel in accept(channel) }
            .bind(host: host, port: port)
            .wait()
        } catch {
            let reason = (error as? IOError).map { String(cString: strerror($0.errnoCode)) }
            throw NodeError(
                code: .unavailable,
                message:
                    "Cannot listen on \(host):\(port): \(reason ?? "\(error)"). Check that the "
                    + "address is one of this machine's and that no other process uses the port.")
        }
        let isStopped = state.withLock { state in
            state.listener = listener
            return state.isStopped
        }
        if isStopped { listener.close(promise: nil) }
        return listener.localAddress?.port ?? port
    }

    package override func start(_ events: any TransportEvents, peers: [String]) throws {
        for peer in peers where HostPort(peer) == nil {
            throw NodeError(
                code: .configuration,
                message: "The peer address \(peer.debugDescription) is not of the form host:port.")
        }
        try listen()
        let links = lanes.enumerated().map { lane, loop in
            LaneLinks(lane: lane, loop: loop, limits: limits, report: report, events: events)
        }
        let listener = state.withLock { state -> (any Channel)? in
            guard !state.isStopped else { return nil }
            state.events = events
            state.links = links
            return state.listener
        }
        guard let listener else { return }
        for (loop, link) in zip(lanes, links) { loop.execute { link.dial(peers) } }
        try listener.setOption(.autoRead, value: true).wait()
    }

    package override func dial(_ addresses: [String]) {
        // What a registry says may be no address at all.
        let addresses = addresses.filter { HostPort($0) != nil }
        for (loop, link) in zip(lanes, state.withLock { $0.links }) {
            loop.execute { link.dial(addresses) }
        }
    }

    package override func hangUp(_ addresses: [String]) {
        for (loop, link) in zip(lanes, state.withLock { $0.links }) {
            loop.execute { link.hangUp(addresses) }
        }
    }

    /// Runs on the accepted channel's loop.
    private func accept(_ channel: any Channel) -> EventLoopFuture<Void> {
        let events = state.withLock { state -> (any TransportEvents)? in
            guard !state.isStopped else { return nil }
            state.accepted[ObjectIdentifier(channel)] = channel
            return state.events
        }
        channel.closeFuture.whenComplete { [self] _ in
            _ = state.withLock { $0.accepted.removeValue(forKey: ObjectIdentifier(channel)) }
        }
        return channel.eventLoop.makeCompletedFuture { [self] in
            guard let events else { throw ChannelError.ioOnClosedChannel }
            let session = AcceptedSession(events: events, clock: clock) { [self] in heard($0) }
            let handler = WireHandler(
                session: session, limits: limits, report: report, accepted: true)
            try channel.pipeline.syncOperations.addHandler(handler)
        }
    }

    private func heard(_ remote: Hello) {
        for (loop, link) in zip(lanes, state.withLock { $0.links }) {
            loop.execute { link.heard(remote) }
        }
    }

    package override func send(_ messages: [RegionMessage], to node: NodeID, lane: Int) {
        let link = state.withLock { $0.links.indices.contains(lane) ? $0.links[lane] : nil }
        guard let link else { return }
        let loop = lanes[lane]
        if loop.inEventLoop {
            link.send(messages, to: node)
        } else {
            loop.execute { link.send(messages, to: node) }
        }
    }

    package override func sendControl(_ bytes: Bytes, to address: String) {
        guard let link = state.withLock({ $0.links.first }) else { return }
        lanes[0].execute { link.sendBootstrap(bytes, to: address) }
    }

    package override func stop() async {
        let (listener, links, accepted) = state.withLock { state in
            state.isStopped = true
            defer { state.listener = nil }
            return (state.listener, state.links, Array(state.accepted.values))
        }
        if let listener {
            listener.close(promise: nil)
            await settled(listener.closeFuture)
        }
        for (loop, link) in zip(lanes, links) {
            await settled(loop.flatSubmit { link.stop() })
        }
        for channel in accepted { channel.close(promise: nil) }
        for channel in accepted {
            await settled(channel.closeFuture)
            // What the loop had already begun to deliver is behind us after one more turn.
            await settled(channel.eventLoop.submit {})
        }
        for loop in lanes { await settled(loop.submit {}) }
        state.withLock { state in
            state.events = nil
            state.links = []
        }
    }

    /// Waits for the end, good or bad: a loop that is shut down already has nothing left to end.
    private func settled(_ future: EventLoopFuture<Void>) async {
        _ = try? await future.get()
    }
}
