// What region 1 holds: who is in the cluster, and the one allocator of ids. Replicated like user
// data, by the same commands, in a key space of its own.
//
//   cluster              the cluster id
//   registry             the nodes: who they are, where they are reached (NodeRegistry.swift)
//   ids                  a counter: the next id to be given out
//
// Its first leader writes them from the bootstrap record, each only if absent: a second leader, or
// the same one after a crash, changes nothing.

import Logging
import Synchronization
import UkehiBase
import UkehiEnvironment
import UkehiState

/// Keys of the system region.
enum SystemKey {
    static let cluster: Bytes = "cluster"
    static let nextID: Bytes = "ids"
    static let registry: Bytes = "registry"
}

/// Takes the answer of one internal request.
private final class CallbackSink: ReplySink, @unchecked Sendable {
    // Safety: `body` is immutable and Sendable.
    private let body: @Sendable (Reply) -> Void
    init(_ body: @escaping @Sendable (Reply) -> Void) {
        self.body = body
        super.init()
    }
    override func reply(_ reply: Reply, tag: UInt64) { body(reply) }
}

extension NodeCore {
    private static let systemEpoch = RegionEpoch(confVersion: 1, version: 1)

    /// Writes the registry and the allocator's start, unless they are there.
    func recordCluster() {
        guard let record = state.withLock({ $0.identity.record }) else { return }
        let facts: [(key: Bytes, value: Bytes)] = [
            (SystemKey.cluster, Bytes("\(record.cluster)")),
            (SystemKey.nextID, Command.counterValue(Int64(clamping: record.nextID))),
            (SystemKey.registry, record.registry.encoded()),
        ]
        let logger = logger
        for fact in facts {
            let command = Command.compareAndSet(
                key: fact.key, expected: .absent, value: fact.value)
            submitSystem(command, key: fact.key) { reply in
                if case .failed(let error) = reply {
                    // The next leader writes it; until then nothing depends on it.
                    logger.debug("the registry was not written", metadata: ["reason": "\(error)"])
                }
            }
        }
    }

    /// Takes `count` ids that nobody else will ever get (RULES 17). Only the system region's leader
    /// can; ids of a request whose outcome is unknown are never used.
    package func allocateIDs(
        _ count: Int, _ done: @escaping @Sendable (Result<UInt64, RequestError>) -> Void
    ) {
        bootWorker.run { [self] in
            // An increment of what is absent would begin at zero, with ids that are somebody's.
            guard stored(SystemKey.nextID) != nil else {
                return done(
                    .failure(.rejected(.unavailable("The id allocator is not set up yet."))))
            }
            // Nor does one that was brought back from a lost quorum know what it had given, before it has
            // skipped that (RULES 74).
            let known = state.withLock { $0.identity.record?.registry.generation ?? 0 }
            guard
                let registry = stored(SystemKey.registry).flatMap({ try? NodeRegistry.decode($0) }),
                registry.generation >= known
            else {
                return done(
                    .failure(.rejected(.unavailable("The id allocator is being brought back."))))
            }
            increment(by: count, done)
        }
    }

    /// What the system region has applied here under a key; nil: nothing, or it is not here.
    func stored(_ key: Bytes) -> Bytes? {
        guard state.withLock({ $0.system != nil }) else { return nil }
        let found = applier.read(region: .system, .get(key), tier: .any)
        guard case .value(let value?) = found else { return nil }
        return value.value
    }

    private func increment(
        by count: Int, _ done: @escaping @Sendable (Result<UInt64, RequestError>) -> Void
    ) {
        let command = Command.increment(key: SystemKey.nextID, by: Int64(count))
        submitSystem(command, key: SystemKey.nextID) { reply in
            switch reply {
            case .command(let result):
                if let next = result.counter {
                    done(.success(UInt64(next) - UInt64(count)))
                } else {
                    done(.failure(.rejected(.unavailable("The id allocator is not set up yet."))))
                }
            case .failed(let error): done(.failure(error))
            default: done(.failure(.outcomeUnknown))
            }
        }
    }

    func submitSystem(
        _ command: Command, key: Bytes, _ done: @escaping @Sendable (Reply) -> Void
    ) {
        let lane = lanes[self.lane(of: .system)]
        var writer = ByteWriter(chunkCapacity: 256)
        do {
            try command.encode(into: &writer)
        } catch {
            return done(.failed(.rejected(.invalid("\(error)"))))
        }
        lane.submit(
            ClientRequest(
                operation: .write(record: writer.take()), key: key,
                expected: (.system, NodeCore.systemEpoch), sink: CallbackSink(done), tag: 0))
    }
}
