// Parts of snapshots on the wire: they have a connection of their own, so that nothing waits behind
// them, and they wait behind nothing else.

import NIOCore
import NIOPosix
import Testing
import UkehiBase
import UkehiNode
import UkehiRaft
import _UkehiTestSupport

@testable import UkehiTransport

/// What came on one connection of a ``ListeningNode``.
private struct Heard: Sendable {
    var purpose: ConnectionPurpose
    /// None: it was the hello.
    var messages: [RegionMessage]
    /// This end of the connection.
    var channel: any Channel
}

/// The accepting end of one connection: shakes hands, then tells what comes.
private final class Recorder: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let heard: AsyncStream<Heard>.Continuation
    private let deafTo: ConnectionPurpose?
    private var assembler = FrameAssembler()
    private var purpose: ConnectionPurpose?

    init(_ heard: AsyncStream<Heard>.Continuation, deafTo: ConnectionPurpose?) {
        self.heard = heard
        self.deafTo = deafTo
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = unwrapInboundIn(data)
        buffer.withUnsafeReadableBytes { raw in
            do throws(WireError) {
                var input = raw
                while let frame = try assembler.next(&input, maxPayload: 16 << 20) {
                    try take(frame, context)
                }
            } catch {
                // Whoever waits for more finds the end instead.
                heard.finish()
            }
        }
    }

    private func take(_ frame: Frame, _ context: ChannelHandlerContext) throws(WireError) {
        switch frame.type {
        case .hello:
            let greeting = try Greeting(decoding: frame.payload)
            purpose = greeting.purpose
            let welcome = Greeting(purpose: greeting.purpose, hello: hello("node-2", node: 2))
            var buffer = ByteBuffer()
            buffer.writeBytes(frameBytes(.welcome, welcome.encode()))
            context.writeAndFlush(wrapOutboundOut(buffer), promise: nil)
            if greeting.purpose == deafTo {
                context.channel.setOption(.autoRead, value: false).whenComplete { _ in }
            }
            tell([], context)
        case .messages:
            var messages: [RegionMessage] = []
            do throws(DecodeError) {
                try MessageCodec.decode(frame.payload, into: &messages)
            } catch {
                throw WireError(error, in: "messages frame")
            }
            tell(messages, context)
        default: break
        }
    }

    private func tell(_ messages: [RegionMessage], _ context: ChannelHandlerContext) {
        guard let purpose else { return }
        heard.yield(Heard(purpose: purpose, messages: messages, channel: context.channel))
    }
}

/// Node 2 as a socket that tells on which connection each message came: a node's own end does not.
private struct ListeningNode {
    let heard: AsyncStream<Heard>
    let address: String
    private let server: any Channel

    /// - Parameter deafTo: Of such connections nothing is read behind the handshake.
    init(on group: MultiThreadedEventLoopGroup, deafTo: ConnectionPurpose? = nil) async throws {
        let (heard, continuation) = AsyncStream<Heard>.makeStream()
        let server = try await ServerBootstrap(group: group)
            .childChannelOption(.socketOption(.so_rcvbuf), value: 64 << 10)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        Recorder(continuation, deafTo: deafTo))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let port = try #require(server.localAddress?.port)
        self.heard = heard
        self.server = server
        address = "127.0.0.1:\(port)"
    }

    func close() async throws { try await server.close() }
}

/// Method: as ``LoopbackTests``. What must hold of a blocked connection is looked at in one turn of
/// the sender's loop, in which nothing can be read, closed or dialed.
@Suite("Snapshots over loopback", .prompt, .timeLimit(.minutes(1)))
struct SnapshotStreamTests {
    /// The region of what is sent only to see whether a connection is up, or to fill one.
    private static let probe: UInt64 = 99

    private let group = MultiThreadedEventLoopGroup.singleton

    private func part(_ number: Int, bytes count: Int, region: UInt64 = 1) -> RegionMessage {
        let chunk = SnapshotChunk(
            snapshot: 7, totalBytes: 1 << 40, offset: UInt64(number) << 20,
            bytes: Bytes([UInt8](repeating: UInt8(truncatingIfNeeded: number), count: count)))
        return message(.snapshotChunk, region: region, context: chunk.encoded())
    }

    private func message(
        _ kind: MessageKind, region: UInt64, context: Bytes
    ) -> RegionMessage {
        RegionMessage(
            region: RegionID(region), epoch: RegionEpoch(confVersion: 1, version: 1),
            message: Message(
                kind: kind, to: PeerID(2), from: PeerID(1), term: Term(3), context: context))
    }

    /// Sends on the lane's loop, as a lane does; whether all of it was sent.
    private func sends(
        _ messages: [RegionMessage], on loop: any EventLoop, _ transport: NIOTransport
    ) async throws -> Bool {
        try await loop.submit {
            let before = transport.statistics.messagesDropped
            transport.send(messages, to: NodeID(2), lane: 0)
            return transport.statistics.messagesDropped == before
        }.get()
    }

    /// Returns when all three connections of the lane carry messages.
    private func connect(_ loop: any EventLoop, _ transport: NIOTransport) async throws {
        for message in [
            heartbeat(region: Self.probe), append([100_000], region: Self.probe),
            part(0, bytes: 10, region: Self.probe),
        ] {
            while try await !sends([message], on: loop, transport) { await Task.yield() }
        }
    }

    /// The first so many messages that are no probes, by the connection that they came on.
    private func messages(
        to node: ListeningNode, _ count: Int
    ) async -> [ConnectionPurpose: [RegionMessage]] {
        var heard = node.heard.makeAsyncIterator()
        var came: [ConnectionPurpose: [RegionMessage]] = [:]
        var left = count
        while left > 0, let event = await heard.first({ event -> Heard? in event }) {
            let messages = event.messages.filter { $0.region.rawValue != Self.probe }
            came[event.purpose, default: []] += messages
            left -= messages.count
        }
        return came
    }

    private func isSame(_ came: [RegionMessage]?, _ sent: [RegionMessage]) -> Bool {
        came?.count == sent.count && zip(came ?? [], sent).allSatisfy { $0.isEqual(to: $1) }
    }

    @Test("parts of snapshots have a connection of their own, and it carries nothing else")
    func ownConnection() async throws {
        let loop = group.next()
        let b = try await ListeningNode(on: group)
        let a = try LoopbackTests.Party("node-1", node: 1, loops: [loop])
        try a.transport.start(a.node, peers: [b.address])
        try await connect(loop, a.transport)
        let parts = (1...3).map { part($0, bytes: 512 << 10) }
        let small = [heartbeat(), append([5], region: 3)]
        let large = append([100_000], region: 2)
        // In one call, as they come from a lane's pass.
        let isSent = try await sends(
            [parts[0], small[0], large, parts[1], small[1], parts[2]], on: loop, a.transport)
        #expect(isSent)
        let came = await messages(to: b, 6)
        #expect(isSame(came[.snapshot], parts))
        #expect(isSame(came[.control], small))
        #expect(isSame(came[.bulk], [large]))
        await a.transport.stop()
        try await b.close()
    }

    @Test("large parts arrive whole and in order at a node, and heartbeats beside them")
    func arrive() async throws {
        let loop = group.next()
        let a = try LoopbackTests.Party("node-1", node: 1, loops: [loop])
        let b = try LoopbackTests.Party("node-2", node: 2, loops: [group.next()])
        try b.transport.start(b.node, peers: [])
        try a.transport.start(a.node, peers: [b.address])
        try await connect(loop, a.transport)
        var told = b.node.events.makeAsyncIterator()
        var parts: [RegionMessage] = []
        var beats: [RegionMessage] = []
        for number in 1...20 {
            let next = part(number, bytes: 512 << 10)
            let beat = heartbeat(region: 2, commit: UInt64(number))
            let isSent = try await sends([next, beat], on: loop, a.transport)
            #expect(isSent)
            // Whoever gets a snapshot asks for the next part when this one is there.
            while parts.count < number || beats.count < number {
                let came = await told.first { event -> [RegionMessage]? in
                    if case .messages(let messages, _) = event { messages } else { nil }
                }
                guard let came else { break }
                parts += came.filter { $0.region == RegionID(1) }
                beats += came.filter { $0.region == RegionID(2) }
            }
            #expect(parts.last.map { $0.isEqual(to: next) } == true)
            #expect(beats.last.map { $0.isEqual(to: beat) } == true)
        }
        #expect(parts.count == 20 && beats.count == 20)
        await a.transport.stop()
        await b.transport.stop()
    }

    @Test("while the snapshot connection takes nothing more, heartbeats and appends go on")
    func snapshotsBlocked() async throws {
        var limits = LoopbackTests.quick
        limits.bulkPendingBytes = 1 << 20
        limits.hardPendingBytes = 1 << 20
        let loop = group.next()
        let b = try await ListeningNode(on: group, deafTo: .snapshot)
        let a = try LoopbackTests.Party("node-1", node: 1, loops: [loop], limits: limits)
        try a.transport.start(a.node, peers: [b.address])
        try await connect(loop, a.transport)
        let transport = a.transport
        let chunk = part(1, bytes: 512 << 10, region: Self.probe)
        var small = (1...100).map { heartbeat(region: 7, commit: UInt64($0)) }
        small.append(append([100], region: 7))
        let large = append([100_000], region: 8)
        let urgent = small + [large]
        let (full, lost, still) = try await loop.submit { () -> (UInt64, UInt64, UInt64) in
            let before = transport.statistics.messagesDropped
            var sent = 0
            while transport.statistics.messagesDropped == before, sent < 1000 {
                transport.send([chunk], to: NodeID(2), lane: 0)
                sent += 1
            }
            let atFull = transport.statistics.messagesDropped
            for message in urgent { transport.send([message], to: NodeID(2), lane: 0) }
            let after = transport.statistics.messagesDropped
            transport.send([chunk], to: NodeID(2), lane: 0)
            return (atFull - before, after - atFull, transport.statistics.messagesDropped - after)
        }.get()
        #expect(full == 1, "the connection was never full")
        #expect(lost == 0)
        #expect(still == 1, "the connection was not full any more")
        // Nor do they wait: nobody ever reads what is on the other connection.
        let came = await messages(to: b, urgent.count)
        #expect(isSame(came[.control], small))
        #expect(isSame(came[.bulk], [large]))
        await a.transport.stop()
        try await b.close()
    }

    @Test("while the control connection takes nothing more, parts of snapshots go on")
    func controlBlocked() async throws {
        var limits = LoopbackTests.quick
        limits.softPendingBytes = 64 << 10
        limits.hardPendingBytes = 256 << 10
        let loop = group.next()
        let b = try await ListeningNode(on: group, deafTo: .control)
        let a = try LoopbackTests.Party("node-1", node: 1, loops: [loop], limits: limits)
        try a.transport.start(a.node, peers: [b.address])
        try await connect(loop, a.transport)
        let transport = a.transport
        // No appends: those are dropped long before everything else is.
        let filling = message(
            .introducePeer, region: Self.probe,
            context: Bytes([UInt8](repeating: 7, count: 60_000)))
        let parts = (1...4).map { part($0, bytes: 256 << 10) }
        let (full, lost, still) = try await loop.submit { () -> (UInt64, UInt64, UInt64) in
            let before = transport.statistics.messagesDropped
            var sent = 0
            while transport.statistics.messagesDropped == before, sent < 10_000 {
                transport.send([filling], to: NodeID(2), lane: 0)
                sent += 1
            }
            let atFull = transport.statistics.messagesDropped
            for part in parts { transport.send([part], to: NodeID(2), lane: 0) }
            let after = transport.statistics.messagesDropped
            transport.send([filling], to: NodeID(2), lane: 0)
            return (atFull - before, after - atFull, transport.statistics.messagesDropped - after)
        }.get()
        #expect(full == 1, "the connection was never full")
        #expect(lost == 0)
        #expect(still == 1, "the connection was not full any more")
        let came = await messages(to: b, parts.count)
        #expect(isSame(came[.snapshot], parts))
        await a.transport.stop()
        try await b.close()
    }

    @Test("a snapshot connection that breaks is dialed again, and its node counts as reachable")
    func breaks() async throws {
        let loop = group.next()
        let b = try await ListeningNode(on: group)
        let a = try LoopbackTests.Party("node-1", node: 1, loops: [loop])
        try a.transport.start(a.node, peers: [b.address])
        let sent = [part(1, bytes: 1000), part(2, bytes: 1000)]
        // Nothing but parts: anything else that is sent too early would make the node unreachable.
        while try await !sends([sent[0]], on: loop, a.transport) { await Task.yield() }
        var heard = b.heard.makeAsyncIterator()
        let first = await heard.first { event -> Heard? in event.messages.isEmpty ? nil : event }
        let broken = try #require(first)
        #expect(broken.purpose == .snapshot && isSame(broken.messages, [sent[0]]))
        broken.channel.close(promise: nil)
        // A new one is dialed once the sender has seen the old one's end.
        let again = await heard.first { event -> Bool? in
            event.messages.isEmpty && event.purpose == .snapshot ? true : nil
        }
        #expect(again == true)
        while try await !sends([sent[1]], on: loop, a.transport) { await Task.yield() }
        let second = await heard.first { event -> Heard? in event.messages.isEmpty ? nil : event }
        #expect(second?.purpose == .snapshot && isSame(second?.messages, [sent[1]]))
        // Nobody was told of it: the first that is told of is this one.
        a.node.unreachable(NodeID(77))
        var told = a.node.events.makeAsyncIterator()
        let lost = await told.first { event -> NodeID? in
            if case .unreachable(let node) = event { node } else { nil }
        }
        #expect(lost == NodeID(77))
        await a.transport.stop()
        try await b.close()
    }
}
