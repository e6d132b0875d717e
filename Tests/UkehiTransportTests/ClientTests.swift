import NIOCore
import NIOPosix
import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiNode
import UkehiState
import _UkehiTestSupport

@testable import UkehiTransport

/// The native protocol from the client's call to its completion, over real sockets.
@Suite("Native clients", .prompt, .timeLimit(.minutes(1)))
struct ClientTests {
    private let group = MultiThreadedEventLoopGroup.singleton

    private func serve(
        limits: WireLimits = .standard, answer: (@Sendable (ClientRequest) -> Reply?)?
    ) throws -> LoopbackTests.Party {
        let party = try LoopbackTests.Party(
            "node-1", node: 1, loops: [group.next()], limits: limits, answer: answer)
        try party.transport.start(party.node, peers: [])
        return party
    }

    private func connect(
        _ party: LoopbackTests.Party, clock: any NodeClock = TestClock()
    ) async throws -> ClientConnection {
        let target = try #require(HostPort(party.address))
        return try await ClientConnection.connect(
            host: target.host, port: target.port, on: group.next(), clock: clock)
    }

    @Test("each request gets its own answer")
    func answers() async throws {
        let party = try serve { request in
            guard case .write(let record) = request.operation else { return .value(nil) }
            return .command(.response(record))
        }
        let client = try await connect(party)
        #expect(client.node.name == "node-1")
        await withTaskGroup(of: Bool.self) { tasks in
            for number in 0..<500 {
                tasks.addTask {
                    let record = Bytes("record \(number)")
                    let reply = await client.ask(.write(record: record), key: "k")
                    guard case .command(.response(let echoed)) = reply else { return false }
                    return echoed == record
                }
            }
            for await isRight in tasks { #expect(isRight) }
        }
        let statistics = party.transport.statistics
        #expect(statistics.requests == 500)
        // What is asked in one turn of the loop travels in one frame.
        #expect(statistics.framesReceived < 500)
        await client.close()
        await party.transport.stop()
    }

    @Test("an 8 MiB value goes in and comes out")
    func largest() async throws {
        let value = Bytes([UInt8](repeating: 7, count: 8 << 20))
        let party = try serve { request in
            guard case .write(let record) = request.operation else {
                return .value(VersionedValue(value: value, version: 1))
            }
            return .command(.applied(version: UInt64(record.count)))
        }
        let client = try await connect(party)
        let written = await client.ask(.write(record: value), key: "k")
        guard case .command(.applied(let size)) = written else {
            Issue.record("\(written)")
            return
        }
        #expect(size == 8 << 20)
        guard case .value(let got?) = await client.ask(.get(.stale), key: "k") else {
            Issue.record("no value")
            return
        }
        #expect(got.value == value)
        guard
            case .failed(.rejected(.invalid)) = await client.ask(
                .write(record: Bytes([UInt8](repeating: 7, count: 16 << 20))), key: "k")
        else {
            Issue.record("16 MiB were taken")
            return
        }
        await client.close()
        await party.transport.stop()
    }

    @Test("when the connection ends, sent writes are unknown and reads may be asked again")
    func lost() async throws {
        let party = try serve(answer: nil)
        let client = try await connect(party)
        async let write = client.ask(.write(record: "r"), key: "k")
        async let read = client.ask(.get(.linearizable), key: "k")
        var events = party.node.events.makeAsyncIterator()
        for _ in 0..<2 {
            _ = await events.first { event -> Bool? in
                if case .request = event { true } else { nil }
            }
        }
        await party.transport.stop()
        guard case .failed(.outcomeUnknown) = await write else {
            Issue.record("the write's outcome is not known")
            return
        }
        guard case .failed(.rejected(.unavailable)) = await read else {
            Issue.record("a read can be asked again")
            return
        }
        _ = try await client.closeFuture.get()
        guard
            case .failed(.rejected(.unavailable)) = await client.ask(.write(record: "r"), key: "k")
        else {
            Issue.record("nothing was sent")
            return
        }
    }

    @Test("a deadline that passes without an answer is told truthfully")
    func deadlines() async throws {
        let party = try serve(answer: nil)
        let clock = TestClock()
        let client = try await connect(party, clock: clock)
        let deadline = clock.now() + 10_000_000
        async let write = client.ask(.write(record: "r"), key: "k", deadline: deadline)
        async let read = client.ask(.get(.linearizable), key: "k", deadline: deadline)
        var events = party.node.events.makeAsyncIterator()
        for _ in 0..<2 {
            let request = await events.first { event -> ClientRequest? in
                if case .request(let request) = event { request } else { nil }
            }
            // Relative on the wire: the node's clock starts elsewhere.
            #expect(request?.deadline == MonotonicTime(nanoseconds: 1_010_000_000))
        }
        clock.advance(by: 20_000_000)
        guard case .failed(.outcomeUnknown) = await write else {
            Issue.record("the write's outcome is not known")
            return
        }
        guard case .failed(.rejected(.timedOut)) = await read else {
            Issue.record("a read can time out")
            return
        }
        await client.close()
        await party.transport.stop()
    }

    @Test("over the bound of requests in flight the answer is overloaded, at once")
    func overloaded() async throws {
        let party = try serve(answer: nil)
        let client = try await connect(party)
        let (replies, continuation) = AsyncStream<String>.makeStream()
        let bound = WireLimits.standard.maxInflightRequests
        try await client.eventLoop.submit {
            for _ in 0...bound {
                client.send(.get(.stale), key: "k") { continuation.yield("\($0)") }
            }
        }.get()
        var iterator = replies.makeAsyncIterator()
        #expect(await iterator.first { $0 } == "\(Reply.failed(.rejected(.overloaded)))")
        await client.close()
        for _ in 0..<bound {
            #expect(await iterator.first { $0 }?.contains("unavailable") == true)
        }
        await party.transport.stop()
    }

    /// Answers anything as a web server would.
    private final class WebServer: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer
        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let answer = ByteBuffer(string: "HTTP/1.1 400 Bad Request\r\n\r\n")
            context.writeAndFlush(wrapOutboundOut(answer), promise: nil)
        }
    }

    @Test("a node that is no node is refused")
    func stranger() async throws {
        let server = try await ServerBootstrap(group: group)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(WebServer())
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let port = try #require(server.localAddress?.port)
        await #expect(throws: WireError.self) {
            try await ClientConnection.connect(
                host: "127.0.0.1", port: port, on: group.next(), clock: TestClock())
        }
        try await server.close()
    }
}
