import NIOCore
import NIOEmbedded
import Testing
import UkehiBase
import UkehiNode
import UkehiRaft
import UkehiState

@testable import UkehiTransport

/// The accepting end of one connection, on a loop whose time the test moves.
///
/// Method: bytes are put into an embedded channel; what it answers, tells the node and logs is
/// looked at. Nothing waits.
@Suite("An accepted connection")
struct ConnectionTests {
    private struct Harness {
        let channel: EmbeddedChannel
        let node: TestNode
        let lines = RecordingLogHandler.Lines()
        let report: WireReport

        init(
            limits: WireLimits = .standard, beside other: Harness? = nil,
            answer: (@Sendable (ClientRequest) -> Reply?)? = nil
        ) throws {
            node = TestNode(hello("node-1", node: 1), answer: answer)
            report = other?.report ?? WireReport(logger: RecordingLogHandler.logger(lines))
            let session = AcceptedSession(events: node, clock: TestClock()) { _ in }
            channel = EmbeddedChannel(
                handler: WireHandler(
                    session: session, limits: limits, report: report, accepted: true))
            try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        }

        func put(_ bytes: [UInt8]) throws {
            var buffer = ByteBuffer()
            buffer.writeBytes(bytes)
            try channel.writeInbound(buffer)
        }

        func greet(_ purpose: ConnectionPurpose = .control, node: UInt64? = 2) throws {
            let greeting = Greeting(purpose: purpose, hello: hello("node-2", node: node))
            try put(frameBytes(.hello, greeting.encode()))
        }

        /// Everything sent since the last look.
        func sent() throws -> [Frame] {
            var assembler = FrameAssembler()
            var frames: [Frame] = []
            while let buffer = try channel.readOutbound(as: ByteBuffer.self) {
                let bytes = Bytes(Array(buffer.readableBytesView))
                try bytes.withUnsafeBytes { (raw) throws(WireError) in
                    var input = raw
                    while let frame = try assembler.next(&input, maxPayload: 1 << 30) {
                        frames.append(frame)
                    }
                }
            }
            return frames
        }

        /// The reason told before the connection was closed; nil if it is open.
        func farewell() throws -> String? {
            guard !channel.isActive else { return nil }
            let last = try sent().last
            #expect(last?.type == .farewell)
            return last.map { Farewell.decode($0.payload).text }
        }
    }

    @Test("welcomes a peer and hands its messages over")
    func welcome() async throws {
        let harness = try Harness()
        try harness.greet()
        let frames = try harness.sent()
        #expect(frames.map(\.type) == [.welcome])
        #expect(try Greeting(decoding: frames[0].payload).hello == hello("node-1", node: 1))
        // Two frames in one read are handed over together.
        let frame = frameBytes(.messages, encodeMessages([heartbeat(), append([3])]))
        try harness.put(frame + frame)
        var events = harness.node.events.makeAsyncIterator()
        let got = await events.first { event -> (Int, NodeID)? in
            if case .messages(let messages, let from) = event {
                (messages.count, from)
            } else {
                nil
            }
        }
        #expect(got?.0 == 4)
        #expect(got?.1 == NodeID(2))
        #expect(harness.report.statistics.messagesReceived == 4)
    }

    @Test("refuses whom the node refuses, and says so on both sides")
    func refusal() throws {
        let harness = try Harness()
        harness.node.refuse("Node node-2 belongs to another cluster.")
        try harness.greet()
        #expect(try harness.farewell() == "Node node-2 belongs to another cluster.")
        #expect(harness.lines.all.count == 1)
        #expect(harness.report.statistics.handshakesRefused == 1)
    }

    @Test("farewells say whether a refusal is one, and whether it is for good")
    func farewells() {
        for (said, heard) in [
            (WireError.Kind.refused, WireError.Kind.refusedByPeer), (.dismissed, .dismissedByPeer),
            (.malformed, .told),
        ] {
            let decoded = Farewell.decode(Farewell.encode(WireError(said, "why")))
            #expect(decoded.kind == heard)
            #expect(decoded.text == "why")
        }
        #expect(Farewell.decode(Bytes([9, 0x77])).kind == .told)
        #expect(Farewell.decode(Bytes()).kind == .told)
    }

    @Test("only a node of the cluster that is not behind can dismiss another")
    func dismissals() throws {
        let own = hello("node-1", node: 1)
        let changes: [(inout Hello) -> Void] = [
            { _ in }, { $0.cluster = nil }, { $0.node = nil },
            { $0.cluster = ClusterID(high: 6, low: 6) }, { $0.generation = 3 },
        ]
        for (position, change) in changes.enumerated() {
            let harness = try Harness()
            var newer = own
            newer.generation = 4
            harness.node.become(newer)
            var remote = hello("node-2", node: 2)
            remote.generation = 4
            change(&remote)
            let greeting = Greeting(purpose: .control, hello: remote)
            try harness.put(frameBytes(.hello, greeting.encode()))
            try harness.put(
                frameBytes(.farewell, Farewell.encode(WireError(.dismissed, "it is dead"))))
            #expect(harness.node.dismissals.count == (position == 0 ? 1 : 0), "\(position)")
        }
    }

    @Test("refuses another protocol, version or purpose")
    func strangers() throws {
        let sound = Greeting(purpose: .control, hello: hello("node-2", node: 2)).encode().array
        for (at, value): (Int, UInt8) in [(0, 0), (8, 2), (12, 9), (13, 8), (14, 1)] {
            let harness = try Harness()
            var bad = sound
            bad[at] = value
            if at == 8 { bad[10] = 3 }  // Versions 2 to 3.
            try harness.put(frameBytes(.hello, Bytes(bad)))
            #expect(try harness.farewell()?.hasPrefix("malformed hello") == true)
        }
        for text in [[0xff, 0xfe], [0x1b, 0x5b]] as [[UInt8]] {  // No UTF-8; a terminal escape.
            let harness = try Harness()
            var bad = sound
            let name = bad.count - "127.0.0.1:1".utf8.count - 2 - "node-2".utf8.count
            bad.replaceSubrange(name..<name + 2, with: text)
            try harness.put(frameBytes(.hello, Bytes(bad)))
            #expect(try harness.farewell()?.hasPrefix("malformed hello") == true)
        }
    }

    @Test("hears nothing before the hello, nor what the hello did not announce")
    func outOfOrder() throws {
        let messages = encodeMessages([heartbeat()])
        for type in FrameType.allCases where type != .hello && type != .farewell {
            let harness = try Harness()
            try harness.put(frameBytes(type, messages))
            #expect(try harness.farewell() != nil)
        }
        for (purpose, type): (ConnectionPurpose, FrameType) in [
            (.client, .messages), (.client, .bootstrap), (.control, .requests), (.bulk, .bootstrap),
            (.control, .replies), (.control, .welcome),
        ] {
            let harness = try Harness()
            try harness.greet(purpose)
            #expect(harness.channel.isActive)
            try harness.put(frameBytes(type, messages))
            #expect(try harness.farewell() != nil)
        }
        let harness = try Harness()
        try harness.greet(node: nil)
        try harness.put(frameBytes(.messages, messages))
        #expect(try harness.farewell() != nil)
    }

    @Test("limits frames to 64 KiB before the hello, to 16 MiB after")
    func oversize() throws {
        for (greets, length) in [(false, (64 << 10) + 1), (true, (16 << 20) + 1)] {
            let harness = try Harness()
            if greets { try harness.greet() }
            var bytes = frameBytes(.messages, Bytes())
            withUnsafeBytes(of: UInt32(length).littleEndian) {
                bytes.replaceSubrange(0..<4, with: $0)
            }
            try harness.put(bytes)
            #expect(try harness.farewell()?.contains("over the limit") == true)
        }
    }

    @Test("takes an entry of 8 MiB")
    func largest() async throws {
        let harness = try Harness()
        try harness.greet(.bulk)
        try harness.put(frameBytes(.messages, encodeMessages([append([(8 << 20) + (16 << 10)])])))
        #expect(harness.channel.isActive)
        #expect(harness.report.statistics.messagesReceived == 1)
    }

    @Test("closes on a bad checksum and on malformed messages")
    func damaged() throws {
        let frame = frameBytes(.messages, encodeMessages([heartbeat()]))
        let harness = try Harness()
        try harness.greet()
        try harness.put(frame.dropLast() + [frame[frame.count - 1] ^ 1])
        #expect(try harness.farewell()?.contains("checksum") == true)
        let other = try Harness()
        try other.greet()
        try other.put(frameBytes(.messages, Bytes([1, 0, 0, 0])))
        #expect(try other.farewell()?.contains("malformed messages") == true)
        #expect(other.report.statistics.connectionsFaulted == 1)
    }

    @Test("logs a few lines per second, however many are at fault")
    func logFlood() throws {
        let lines = RecordingLogHandler.Lines()
        let report = WireReport(logger: RecordingLogHandler.logger(lines))
        for step in 0..<1000 {
            report.ended(
                WireError(.malformed, "bad"), remote: "x",
                at: NIODeadline.uptimeNanoseconds(UInt64(step) * 2_000_000))
        }
        #expect(lines.all.count == 2 * LogLimiter.burst)
        #expect(lines.all.contains { $0.contains("495 more") })
        #expect(report.statistics.connectionsFaulted == 1000)
    }

    @Test("waits for a hello, for the next byte and for the end of a frame only so long")
    func timeouts() throws {
        let silent = try Harness()
        silent.channel.embeddedEventLoop.advanceTime(by: .seconds(6))
        #expect(try silent.farewell()?.contains("hello") == true)

        let frame = frameBytes(.messages, encodeMessages([append([1000])]))
        let stalls = try Harness()
        try stalls.greet()
        try stalls.put([UInt8](frame[..<20]))
        stalls.channel.embeddedEventLoop.advanceTime(by: .seconds(12))
        #expect(try stalls.farewell()?.contains("no byte") == true)

        let trickles = try Harness()
        try trickles.greet()
        var open = 0
        for byte in frame where trickles.channel.isActive {
            try trickles.put([byte])
            trickles.channel.embeddedEventLoop.advanceTime(by: .seconds(5))
            open += 1
        }
        #expect(open < 20)
        #expect(try trickles.farewell()?.contains("complete") == true)

        let quiet = try Harness()
        try quiet.greet()
        quiet.channel.embeddedEventLoop.advanceTime(by: .hours(1))
        #expect(quiet.channel.isActive)
        let client = try Harness()
        try client.greet(.client)
        client.channel.embeddedEventLoop.advanceTime(by: .minutes(11))
        #expect(!client.channel.isActive)
    }

    @Test("bounds what all unfinished frames hold together, for clients: nodes are not pushed out")
    func assemblingBound() throws {
        var limits = WireLimits.standard
        limits.maxAssemblingBytes = 40 << 10
        let client = try Harness(limits: limits)
        try client.greet(.client)
        let frame = frameBytes(.messages, encodeMessages([append([100_000])]))
        try client.put([UInt8](frame[..<30_000]))
        #expect(try client.farewell()?.contains("unfinished") == true)
        #expect(client.report.held(0) == 0)

        let node = try Harness(limits: limits)
        try node.greet()
        try node.put([UInt8](frame[..<30_000]))
        #expect(node.channel.isActive)
        #expect(node.report.held(0) > 30_000)
    }

    @Test("bounds the number of connections, and leaves some of them to nodes")
    func connectionBound() throws {
        var limits = WireLimits.standard
        limits.maxConnections = 2
        let first = try Harness(limits: limits)
        try first.greet(.client)
        #expect(first.channel.isActive)
        let second = try Harness(limits: limits, beside: first)
        try second.greet(.client)
        #expect(try second.farewell()?.contains("1 clients are connected already") == true)
        let node = try Harness(limits: limits, beside: first)
        try node.greet()
        #expect(node.channel.isActive)
        let third = try Harness(limits: limits, beside: first)
        #expect(!third.channel.isActive)
        // Who leaves makes room.
        try first.channel.close().wait()
        let next = try Harness(limits: limits, beside: first)
        try next.greet(.client)
        #expect(next.channel.isActive)
    }

    @Test(
        "what a client's reads give back in one go is bounded; the rest of them is to be asked again"
    )
    func readBound() throws {
        let sink = ConnectionSink(loop: EmbeddedEventLoop(), maxBytes: 2500)
        var kept: [Bool] = []
        for tag in 0..<4 as Range<UInt64> {
            let value = Bytes([UInt8](repeating: 7, count: 1000))
            sink.reply(.value(VersionedValue(value: value, version: 1)), tag: tag)
        }
        sink.reply(.command(.applied(version: 3)), tag: 4)
        for (_, reply) in sink.take() {
            if case .failed(.rejected(.overloaded)) = reply {
                kept.append(false)
            } else {
                kept.append(true)
            }
        }
        #expect(kept == [true, true, false, false, true])
    }

    @Test("serves a client's requests and bounds those in flight")
    func client() async throws {
        var limits = WireLimits.standard
        limits.maxInflightRequests = 2
        let harness = try Harness(limits: limits)
        try harness.greet(.client)
        #expect(try harness.sent().map(\.type) == [.welcome])
        let requests = (0..<3).map {
            WireRequest(id: UInt64($0) + 100, operation: .get(.stale), key: "k")
        }
        let payload = encodeExactly(4 + requests.map { RequestCodec.bytes(of: $0) }.reduce(0, +)) {
            $0.put(UInt32(3))
            for request in requests { RequestCodec.encode(request, into: &$0) }
        }
        try harness.put(frameBytes(.requests, payload))
        // The third is over the bound and answered at once.
        #expect(try replies(harness) == [102: "\(Reply.failed(.rejected(.overloaded)))"])
        var events = harness.node.events.makeAsyncIterator()
        for expected in [100, 101] as [UInt64] {
            let request = await events.first { event -> ClientRequest? in
                if case .request(let request) = event { request } else { nil }
            }
            request?.sink.reply(.value(nil), tag: request?.tag ?? 0)
            request?.sink.flush()
            #expect(try replies(harness) == [expected: "\(Reply.value(nil))"])
        }
        try harness.put(frameBytes(.requests, payload))
        #expect(try replies(harness).count == 1)
    }

    private func requests(_ requests: [WireRequest]) -> [UInt8] {
        let size = requests.map { RequestCodec.bytes(of: $0) }.reduce(4, +)
        return frameBytes(
            .requests,
            encodeExactly(size) {
                $0.put(UInt32(requests.count))
                for request in requests { RequestCodec.encode(request, into: &$0) }
            })
    }

    @Test("a request in flight counts with the frame that it keeps in memory")
    func keptFrames() async throws {
        let harness = try Harness { request in request.key.count > 1 ? .value(nil) : nil }
        try harness.greet(.client)
        _ = try harness.sent()
        let long = Bytes([UInt8](repeating: 7, count: 1 << 20))
        let bound = WireLimits.standard.maxInflightRequestBytes >> 20
        var overloaded = 0
        for number in 0..<UInt64(40) {
            try harness.put(
                requests([
                    WireRequest(id: number, operation: .get(.stale), key: "k"),
                    WireRequest(id: number + 1000, operation: .get(.stale), key: long),
                ]))
            let replies = try replies(harness)
            if replies[number] == "\(Reply.failed(.rejected(.overloaded)))" { overloaded += 1 }
        }
        #expect(overloaded >= 40 - bound)
        #expect(overloaded < 40)
        // Answers make room again.
        var events = harness.node.events.makeAsyncIterator()
        for _ in overloaded..<40 {
            let request = await events.first { event -> ClientRequest? in
                if case .request(let request) = event { request } else { nil }
            }
            request?.sink.reply(.value(nil), tag: request?.tag ?? 0)
            request?.sink.flush()
        }
        _ = try harness.sent()
        try harness.put(requests([WireRequest(id: 1, operation: .get(.stale), key: "k")]))
        #expect(try replies(harness).isEmpty)
    }

    private func replies(_ harness: Harness) throws -> [UInt64: String] {
        var all: [UInt64: String] = [:]
        for frame in try harness.sent() {
            #expect(frame.type == .replies)
            try ReplyCodec.decode(frame.payload) { id, reply in all[id] = "\(reply)" }
        }
        return all
    }
}
