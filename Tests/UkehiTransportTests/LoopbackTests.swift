import Logging
import NIOCore
import NIOPosix
import Testing
import UkehiBase
import UkehiNode
import UkehiRaft
import _UkehiTestSupport

@testable import UkehiTransport

/// Two or more transports over real sockets on this machine.
///
/// Method: each waits for what the other is told; nothing sleeps. Back-off is shortened so that a
/// refused or broken connection is tried again at once.
@Suite("Transports over loopback", .prompt, .timeLimit(.minutes(1)))
struct LoopbackTests {
    /// One node's transport with its recording node.
    final class Party: Sendable {
        let node: TestNode
        let transport: NIOTransport
        let address: String
        let name: String

        init(
            _ name: String, node id: UInt64?, loops: [any EventLoop], port: Int = 0,
            limits: WireLimits = LoopbackTests.quick, lines: RecordingLogHandler.Lines = .init(),
            answer: (@Sendable (ClientRequest) -> Reply?)? = nil
        ) throws {
            self.name = name
            transport = NIOTransport(
                host: "127.0.0.1", port: port, lanes: loops, inbound: loops[0], clock: TestClock(),
                logger: RecordingLogHandler.logger(lines), limits: limits)
            let bound = try transport.listen()
            address = "127.0.0.1:\(bound)"
            node = TestNode(hello(name, node: id, address: address), answer: answer)
        }

        func join(_ id: UInt64) { node.become(hello(name, node: id, address: address)) }
    }

    static let quick: WireLimits = {
        var limits = WireLimits.standard
        limits.firstBackoff = .milliseconds(2)
        limits.longestBackoff = .milliseconds(10)
        limits.helloInterval = .milliseconds(2)
        // Messages are sent once here: a machine that stands still must break no connection.
        limits.unansweredMilliseconds = 60_000
        limits.snapshotUnansweredMilliseconds = 60_000
        limits.stallTimeout = .seconds(60)
        return limits
    }()

    private let group = MultiThreadedEventLoopGroup.singleton

    private func connected(_ event: TestNode.Event) -> (Hello, dialed: String)? {
        if case .connected(let remote, let dialed) = event { (remote, dialed) } else { nil }
    }
    private func messages(_ event: TestNode.Event) -> ([RegionMessage], from: NodeID)? {
        if case .messages(let messages, let from) = event { (messages, from) } else { nil }
    }
    private func unreachable(_ event: TestNode.Event) -> NodeID? {
        if case .unreachable(let node) = event { node } else { nil }
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

    @Test("messages arrive whole, in order, from the node that sent them")
    func messagesArrive() async throws {
        let a = try Party("node-1", node: 1, loops: [group.next(), group.next()])
        let b = try Party("node-2", node: 2, loops: [group.next()])
        try b.transport.start(b.node, peers: [])
        try a.transport.start(a.node, peers: [b.address])
        var told = a.node.events.makeAsyncIterator()
        let up = await told.first { connected($0) }
        #expect(up?.0.node == NodeID(2))
        #expect(up?.dialed == b.address)
        #expect(b.node.judged.allSatisfy { $0.dialed == nil && $0.remote.name == "node-1" })

        // Lane 0's control connection is up; large appends follow once its bulk connection is.
        var heard = b.node.events.makeAsyncIterator()
        let sent = (1...50).map { append([10, 0, 300], region: $0) } + [heartbeat(region: 77)]
        a.transport.send(sent, to: NodeID(2), lane: 0)
        var got: [RegionMessage] = []
        while got.count < sent.count {
            guard let (messages, from) = await heard.first({ messages($0) }) else { break }
            #expect(from == NodeID(1))
            got += messages
        }
        #expect(got.count == sent.count)
        #expect(zip(got, sent).allSatisfy { $0.isEqual(to: $1) })
        await a.transport.stop()
        await b.transport.stop()
    }

    @Test("a large append and what follows it in its region arrive in order")
    func bulk() async throws {
        let loop = group.next()
        let a = try Party("node-1", node: 1, loops: [loop])
        let b = try Party("node-2", node: 2, loops: [group.next()])
        try b.transport.start(b.node, peers: [])
        try a.transport.start(a.node, peers: [b.address])
        // Large appends are dropped until their own connection is up.
        while try await !sends([append([100_000], region: 2)], on: loop, a.transport) {
            await Task.yield()
        }
        // So does a large answer to a peer whose copy of those entries is damaged.
        var answer = append([2 << 20, 100], index: 3)
        answer.message.kind = .requestEntriesResponse
        let sent = [
            append([2 << 20], index: 10), answer, append([5], index: 11), append([6], index: 12),
        ]
        let transport = a.transport
        let dropped = transport.statistics.messagesDropped
        try await loop.submit {
            for message in sent { transport.send([message], to: NodeID(2), lane: 0) }
        }.get()
        #expect(transport.statistics.messagesDropped == dropped)
        var heard = b.node.events.makeAsyncIterator()
        var got: [RegionMessage] = []
        while got.count < sent.count, let (messages, _) = await heard.first({ messages($0) }) {
            got += messages.filter { $0.region == RegionID(1) }
        }
        #expect(got.count == sent.count)
        #expect(zip(got, sent).allSatisfy { $0.isEqual(to: $1) })
        await a.transport.stop()
        await b.transport.stop()
    }

    @Test("the bootstrap conversation works before there is a cluster, messages after it")
    func bootstrap() async throws {
        let loop = group.next()
        let a = try Party("node-1", node: nil, loops: [loop])
        let b = try Party("node-2", node: nil, loops: [group.next()])
        try a.transport.start(a.node, peers: [b.address])
        try b.transport.start(b.node, peers: [a.address])
        var atA = a.node.events.makeAsyncIterator()
        var atB = b.node.events.makeAsyncIterator()
        let up = await atA.first { connected($0) }
        #expect(up?.0.cluster == nil)
        a.transport.sendControl("an offer", to: b.address)
        let offer = await atB.first { event -> (Bytes, Hello)? in
            if case .control(let bytes, let from) = event { (bytes, from) } else { nil }
        }
        #expect(offer?.0 == "an offer")
        #expect(offer?.1.name == "node-1")

        a.join(1)
        b.join(2)
        // The hello is repeated until both sides are named.
        let named = await atA.first { event -> Hello? in
            connected(event).flatMap { $0.0.node == nil ? nil : $0.0 }
        }
        #expect(named?.node == NodeID(2))
        // Its own new name may still be on the way.
        while try await !sends([heartbeat()], on: loop, a.transport) { await Task.yield() }
        let got = await atB.first { messages($0) }
        #expect(got?.from == NodeID(1))
        await a.transport.stop()
        await b.transport.stop()
    }

    @Test("a broken connection is reported once and dialed again")
    func reconnect() async throws {
        let loops: [any EventLoop] = [group.next()]
        let a = try Party("node-1", node: 1, loops: [group.next()])
        let first = try Party("node-2", node: 2, loops: loops)
        let port = try #require(HostPort(first.address)?.port)
        try first.transport.start(first.node, peers: [])
        try a.transport.start(a.node, peers: [first.address])
        var told = a.node.events.makeAsyncIterator()
        _ = await told.first { connected($0) }
        await first.transport.stop()
        let lost = await told.first { unreachable($0) }
        #expect(lost == NodeID(2))
        a.transport.send([heartbeat()], to: NodeID(2), lane: 0)

        let second = try Party("node-2", node: 2, loops: loops, port: port)
        try second.transport.start(second.node, peers: [])
        let again = await told.first { connected($0) }
        #expect(again?.dialed == second.address)
        a.transport.send([heartbeat(commit: 5)], to: NodeID(2), lane: 0)
        var heard = second.node.events.makeAsyncIterator()
        let got = await heard.first { messages($0) }
        #expect(got?.0.first?.message.commit == LogIndex(5))
        await a.transport.stop()
        await second.transport.stop()
    }

    @Test("an address that answers as somebody else is refused, with the reason logged on both")
    func wrongNode() async throws {
        let atA = RecordingLogHandler.Lines()
        let atB = RecordingLogHandler.Lines()
        let a = try Party("node-1", node: 1, loops: [group.next()], lines: atA)
        let b = try Party("node-2", node: 2, loops: [group.next()], lines: atB)
        a.node.refuse("node-3 was expected here.")
        try b.transport.start(b.node, peers: [a.address])
        try a.transport.start(a.node, peers: [b.address])
        while !atA.all.contains(where: { $0.contains("node-3 was expected") })
            || !atB.all.contains(where: { $0.contains("the other side says: node-3 was") })
        {
            await Task.yield()
        }
        // The node that was refused is told, so that it can stop if all others do the same.
        var told = b.node.events.makeAsyncIterator()
        let refused = await told.first { event -> String? in
            if case .refused(_, let dialed) = event { dialed } else { nil }
        }
        #expect(refused == a.address)
        await a.transport.stop()
        await b.transport.stop()
        #expect(a.transport.statistics.messagesSent == 0)
    }

    @Test("whoever is dismissed is told so, whoever called", arguments: [true, false])
    func dismissed(calls: Bool) async throws {
        let a = try Party("node-1", node: 1, loops: [group.next()])
        let b = try Party("node-2", node: 2, loops: [group.next()])
        a.node.dismiss("it is dead")
        try b.transport.start(b.node, peers: calls ? [a.address] : [])
        try a.transport.start(a.node, peers: [])
        if !calls { a.transport.dial([b.address, b.address, "nowhere"]) }
        var told = b.node.events.makeAsyncIterator()
        let reason = await told.first { event -> String? in
            if case .dismissed(let reason, _) = event { reason } else { nil }
        }
        #expect(reason == "the other side says: it is dead")
        await a.transport.stop()
        await b.transport.stop()
    }

    @Test("a port in use and an address that is none are errors that say what to do")
    func startErrors() async throws {
        let a = try Party("node-1", node: 1, loops: [group.next()])
        let port = try #require(HostPort(a.address)?.port)
        let b = NIOTransport(
            host: "127.0.0.1", port: port, lanes: [group.next()], inbound: group.next(),
            clock: TestClock(), logger: RecordingLogHandler.logger())
        #expect {
            try b.start(a.node, peers: [])
        } throws: { ($0 as? NodeError)?.code == .unavailable }
        #expect {
            try a.transport.start(a.node, peers: ["nowhere"])
        } throws: { ($0 as? NodeError)?.code == .configuration }
        await a.transport.stop()
        await b.stop()
    }

    @Test("host:port is understood")
    func hostPort() {
        #expect(HostPort("node-2:7878")?.host == "node-2")
        #expect(HostPort("[::1]:80")?.host == "::1")
        for bad in ["", ":1", "a:", "a:0", "a:65536", "::1:80", "a"] {
            #expect(HostPort(bad) == nil, "\(bad)")
        }
    }

    @Test("connections full of noise are closed and disturb nobody")
    func noise() async throws {
        let loop = group.next()
        let a = try Party("node-1", node: 1, loops: [loop])
        let b = try Party("node-2", node: 2, loops: [loop])
        try b.transport.start(b.node, peers: [])
        try a.transport.start(a.node, peers: [b.address])
        let target = try #require(HostPort(b.address))
        var random = SeededRandom(9)
        for size in [1000, 13, 100_000, 5000] {
            var noise = random.bytes(size).array
            noise[3] = 0xff  // An impossible length, so that nobody waits for a frame's end.
            let channel = try await ClientBootstrap(group: group)
                .connect(host: target.host, port: target.port).get()
            channel.writeAndFlush(ByteBuffer(bytes: noise), promise: nil)
            try await channel.closeFuture.get()
        }
        #expect(b.transport.statistics.connectionsFaulted == 4)
        while try await !sends([heartbeat()], on: loop, a.transport) { await Task.yield() }
        var heard = b.node.events.makeAsyncIterator()
        #expect(await heard.first { messages($0) }?.from == NodeID(1))
        await a.transport.stop()
        await b.transport.stop()
    }

    /// A peer that shakes hands and then reads nothing more.
    private final class Mute: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer
        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let purpose = unwrapInboundIn(data).getInteger(
                at: FrameHeader.bytes + 12, as: UInt8.self)
            let greeting = Greeting(
                purpose: purpose.flatMap { ConnectionPurpose(rawValue: $0) } ?? .control,
                hello: hello("node-2", node: 2))
            var buffer = ByteBuffer()
            buffer.writeBytes(frameBytes(.welcome, greeting.encode()))
            context.writeAndFlush(wrapOutboundOut(buffer), promise: nil)
            context.channel.setOption(.autoRead, value: false).whenComplete { _ in }
        }
    }

    @Test("towards a peer that does not read, appends and then everything are dropped")
    func backPressure() async throws {
        var limits = Self.quick
        limits.softPendingBytes = 256 << 10
        limits.hardPendingBytes = 1 << 20
        let server = try await ServerBootstrap(group: group)
            .childChannelOption(.socketOption(.so_rcvbuf), value: 64 << 10)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Mute())
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let port = try #require(server.localAddress?.port)
        let loop = group.next()
        let a = try Party("node-1", node: 1, loops: [loop], limits: limits)
        try a.transport.start(a.node, peers: ["127.0.0.1:\(port)"])
        var told = a.node.events.makeAsyncIterator()
        _ = await told.first { connected($0) }

        // On the lane's loop, as a lane does it; the socket takes some megabytes at first.
        let transport = a.transport
        let chunk = append([60_000])
        try await loop.submit {
            var sent = 0
            while transport.statistics.messagesDropped == 0, sent < 10_000 {
                transport.send([chunk], to: NodeID(2), lane: 0)
                sent += 1
            }
        }.get()
        let reported = await told.first { unreachable($0) }
        #expect(reported == NodeID(2))
        let (atSoft, atHard) = try await loop.submit {
            let before = transport.statistics
            for _ in 0..<100 { transport.send([chunk], to: NodeID(2), lane: 0) }
            let appends = transport.statistics
            // A heartbeat still passes; 2 MiB of them do not.
            transport.send([heartbeat()], to: NodeID(2), lane: 0)
            let beat = transport.statistics
            for _ in 0..<40_000 { transport.send([heartbeat()], to: NodeID(2), lane: 0) }
            let after = transport.statistics
            return (
                (appends.bytesSent - before.bytesSent, beat.messagesSent - appends.messagesSent),
                after.bytesSent - beat.bytesSent
            )
        }.get()
        #expect(atSoft.0 == 0)
        #expect(atSoft.1 == 1)
        #expect(atHard <= 1 << 20)
        await a.transport.stop()
        try await server.close()
    }
}
