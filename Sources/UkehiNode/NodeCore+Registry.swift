// How the cluster's nodes come to be known to each other, and new ones to the cluster (RULES 16, 63).
//
//   new directory  says hello to a seed ──▶ the seed tells whoever leads the system region: registerNode
//   leader         takes an id, writes the next registry over the one it knows: compare and set, so that
//                  two leaders cannot both have their way
//   members        of the system region see it applied, others ask around for newer ones: requestRegistry
//   everybody      persists it, then dials whom it names and lives by it
//   a member       finds a listed node that has no record yet, and offers it one
//
// All of it is looked at once a second and can be repeated: nothing waits for an answer.

import Logging
import Synchronization
package import UkehiBase
import UkehiEnvironment
package import UkehiRaft
import UkehiState

/// What tending the registry remembers between two looks.
struct RegistryTending {
    /// Directories that want to be nodes, or nodes that moved; ascending by incarnation, bounded.
    var joiners: [Hello] = []
    /// Addresses that the transport dials.
    var dialed: Set<String> = []
    /// Which node answered at a dialed address, and where it says to be: another one, if that was an alias, or
    /// it has moved since.
    var reached: [String: (node: NodeID, address: String)] = [:]
    /// Who answered there and had no cluster yet.
    var lacking: [String: Hello] = [:]
    /// Looks so far.
    var looks: UInt64 = 0
    /// The look at which the registration under way began.
    var registeredAt: UInt64?
}

extension NodeCore {
    /// Looks after which a registration that was not answered is given up.
    private static let patience: UInt64 = 10
    /// Looks between two questions for a newer registry, of nodes without the system region and with it.
    private static let inquiries: (other: UInt64, member: UInt64) = (2, 8)
    /// Looks after which nodes that no configured peer answered for are dialed where the registry says.
    private static let settling: UInt64 = 3
    /// Ids that a recovery passes over: some of them may have been given out in what was lost (RULES 17).
    private static let idsPerRecovery: Int64 = 1 << 24

    package func tendRegistry() {
        bootWorker.run { [self] in
            let isOpen = state.withLock { state in
                state.tending.looks += 1
                return state.isOpen && state.failure == nil && !state.isStopping
            }
            guard isOpen else { return }
            let stored = storedRegistry()
            if let stored { adopt(stored) }
            if isLeader {
                // What the leader wrote as it was elected may have come to nothing.
                if stored == nil || self.stored(SystemKey.nextID) == nil { recordCluster() }
                bringUp(stored)
                registerNext()
            } else {
                passOn()
            }
            ask()
            tellLoad()
            tendMap()
            dialUnreached()
            offerAgain()
        }
    }

    // MARK: Taking over

    /// The registry as the system region has it, if that is here.
    private func storedRegistry() -> NodeRegistry? {
        stored(SystemKey.registry).flatMap { try? NodeRegistry.decode($0) }
    }

    /// Lives by a registry from now on if it is the newer one; durable first. On the boot worker.
    func adopt(_ registry: NodeRegistry) {
        var identity = state.withLock { $0.identity }
        guard let record = identity.record, registry.isNewer(than: record.registry),
            let node = identity.node
        else { return }
        guard let own = registry.node(node), own.standing == .present,
            own.incarnation == identity.incarnation
        else {
            return dismissed(
                "The cluster's registry, \(registry.generation).\(registry.version), has another "
                    + "directory in this one's place, or none.", by: "the registry")
        }
        identity.record?.follow(registry)
        do throws(NodeError) {
            try identity.store(environment.fileSystem, directory: directory)
        } catch {
            return failed(error)
        }
        state.withLock { state in
            if state.generation != registry.generation { state.keeping.beginsGeneration() }
            state.identity = identity
            state.bootstrap.follow(registry)
            state.tending.joiners.removeAll { !state.bootstrap.isNews($0) }
        }
        logger.info(
            "the cluster's nodes have changed",
            metadata: [
                "registry": "\(registry.generation).\(registry.version)",
                "nodes": "\(registry.present.map(\.name).joined(separator: " "))",
            ])
    }

    /// A node that is none any more serves nobody: what it holds is not the cluster's.
    package func dismissed(_ reason: String, by address: String) {
        failed(
            NodeError(
                code: .identity,
                message:
                    "\(address) says that this node is none of its cluster any more: \(reason) "
                    + "Nothing was changed in \(directory)."))
    }

    // MARK: The leader of the system region

    /// Writes the registry that this node knows, if the system region has an older one: after a recovery.
    private func bringUp(_ stored: NodeRegistry?) {
        guard let stored, let known = state.withLock({ $0.identity.record?.registry }),
            known.isNewer(than: stored)
        else { return }
        if known.generation > stored.generation {
            let skip = Command.increment(key: SystemKey.nextID, by: Self.idsPerRecovery)
            // The registry says that it was done.
            return submitSystem(skip, key: SystemKey.nextID) { [weak self] reply in
                if case .command = reply { self?.write(known, over: stored) }
            }
        }
        write(known, over: stored)
    }

    /// Takes in the next directory that asks.
    private func registerNext() {
        let next: (hello: Hello, registry: NodeRegistry)? = state.withLock { state in
            if let since = state.tending.registeredAt,
                state.tending.looks < since + Self.patience
            {
                return nil
            }
            state.tending.joiners.removeAll { !state.bootstrap.isNews($0) }
            guard let hello = state.tending.joiners.first,
                let registry = state.identity.record?.registry
            else { return nil }
            state.tending.registeredAt = state.tending.looks
            return (hello, registry)
        }
        guard let (hello, registry) = next else { return }
        if case .moved(let moved) = registry.admission(of: hello) {
            return write(moved, over: registry)
        }
        allocateIDs(1) { [weak self] result in
            guard let self else { return }
            // An allocator that was lost with a quorum may give an id that a node has: the next one is tried.
            guard let id = try? result.get(), registry.nodes.allSatisfy({ $0.node < NodeID(id) })
            else { return registrationEnded() }
            write(registry.admitting(hello, as: NodeID(id)), over: registry)
        }
    }

    private func registrationEnded() { state.withLock { $0.tending.registeredAt = nil } }

    func write(
        _ registry: NodeRegistry, over old: NodeRegistry,
        _ done: @escaping @Sendable (_ isWritten: Bool) -> Void = { _ in }
    ) {
        let command = Command.compareAndSet(
            key: SystemKey.registry, expected: .value(old.encoded()), value: registry.encoded())
        submitSystem(command, key: SystemKey.registry) { [weak self] reply in
            guard let self else { return }
            registrationEnded()
            // Otherwise another leader was first, or has yet to be: the next look shows.
            guard case .command(.applied) = reply else { return done(false) }
            bootWorker.run { [self] in
                adopt(registry)
                done(true)
            }
        }
    }

    // MARK: Between nodes

    /// Tells whoever leads the system region of directories that want to be nodes.
    private func passOn() {
        let (joiners, targets) = state.withLock { state in
            state.tending.joiners.removeAll { !state.bootstrap.isNews($0) }
            return (state.tending.joiners, state.systemNodes)
        }
        for joiner in joiners {
            for target in targets { send(.registerNode, context: joiner.encoded(), to: target) }
        }
    }

    /// Asks one node after the other for a newer registry.
    private func ask() {
        let question: (target: NodeID, registry: NodeRegistry)? = state.withLock { state in
            let pause = state.system == nil ? Self.inquiries.other : Self.inquiries.member
            guard state.tending.looks % pause == 0, let registry = state.identity.record?.registry
            else { return nil }
            let others = registry.present.map(\.node).filter { $0 != state.identity.node }
            guard !others.isEmpty else { return nil }
            let turn = state.tending.looks / pause
            return (others[Int(turn % UInt64(others.count))], registry)
        }
        guard let question else { return }
        let registry = question.registry
        let message = Message(
            kind: .requestRegistry, index: LogIndex(registry.version),
            commit: LogIndex(registry.generation))
        send(message, to: question.target)
    }

    /// What nodes say to nodes about nodes.
    package func received(nodeMessage message: Message, from node: NodeID) {
        switch message.kind {
        case .requestIDs, .requestIDsResponse: received(idMessage: message, from: node)
        case .registerNode:
            guard let hello = try? Hello.decode(message.context) else { return }
            state.withLock { $0.note(hello) }
        case .requestRegistry:
            let news: RegistryNews? = state.withLock { state in
                guard let registry = state.identity.record?.registry,
                    (registry.generation, registry.version)
                        > (message.commit.rawValue, message.index.rawValue),
                    let system = state.system ?? state.foreign[.system]
                else { return nil }
                return RegistryNews(registry: registry, system: system)
            }
            if let news { send(.registry, context: news.encoded(), to: node) }
        case .registry:
            guard let news = try? RegistryNews.decode(message.context) else { return }
            state.withLock { state in
                // Where to ask for ids, on a node that has no peer of it.
                if state.system == nil,
                    state.foreign[.system].map({
                        $0.epoch.confVersion < news.system.epoch.confVersion
                    }) ?? true
                {
                    state.foreign[.system] = news.system
                }
            }
            bootWorker.run { [self] in adopt(news.registry) }
        case .nodeLoad: received(load: message, from: node)
        default: received(mapMessage: message, from: node)
        }
    }

    private func send(_ kind: MessageKind, context: Bytes, to node: NodeID) {
        send(Message(kind: kind, context: context), to: node)
    }

    func send(_ message: Message, to node: NodeID) {
        transport.send(
            [
                RegionMessage(
                    region: .system, epoch: RegionEpoch(confVersion: 1, version: 1),
                    message: message)
            ], to: node, lane: lane(of: .system))
    }

    // MARK: Connections

    /// Dials nodes that nobody has answered for yet, and those that are elsewhere now; no more where nobody is
    /// looked for.
    private func dialUnreached() {
        let (addresses, past): ([String], [String]) = state.withLock { state in
            guard state.tending.looks > Self.settling,
                let registry = state.identity.record?.registry
            else { return ([], []) }
            let reached = state.tending.reached.values
            var addresses = registry.present.filter { known in
                known.node != state.identity.node
                    && !reached.contains { $0 == (known.node, known.address) }
            }.map(\.address)
            // Who said so itself is dialed at once: without it there may be no quorum to list it anew.
            let movers = state.tending.joiners.filter {
                $0.node != nil && $0.node != state.identity.node
            }.map(\.address)
            addresses += movers
            addresses.removeAll { state.tending.dialed.contains($0) }
            state.tending.dialed.formUnion(addresses)
            let past = state.tending.dialed.subtracting(options.peers + movers).subtracting(
                registry.present.map(\.address))
            state.tending.dialed.subtract(past)
            for address in past {
                state.tending.reached[address] = nil
                state.tending.lacking[address] = nil
            }
            return (addresses, past.sorted())
        }
        if !past.isEmpty { transport.hangUp(past) }
        if !addresses.isEmpty { transport.dial(addresses) }
    }

    /// Whoever answered and had no record may be listed by now, or may have lost an offer.
    private func offerAgain() {
        let actions = state.withLock { state in
            state.tending.lacking.sorted { $0.key < $1.key }.flatMap {
                state.bootstrap.connected($0.value, dialed: $0.key)
            }
        }
        perform(actions)
    }

    /// The record for a node that joined later.
    func welcome(_ node: NodeID) -> Bytes? {
        let (record, own, others) = state.withLock { state in
            (
                state.identity.record, (state.system.map { [$0] } ?? []) + state.descriptors,
                (state.foreign[.system].map { [$0] } ?? []) + state.elsewhere
            )
        }
        guard let record, record.registry.node(node) != nil else { return nil }
        return ClusterRecord.joining(
            node, cluster: record.cluster, registry: record.registry, own: own, others: others
        ).encoded()
    }
}

extension NodeCore.State {
    private static let maxJoiners = 64

    /// Remembers a directory that wants to be a node, or a node that moved.
    mutating func note(_ hello: Hello) {
        // What it said before is past, also where it is back at the address that is listed. Others may have an old
        // hello of this node itself.
        tending.joiners.removeAll { $0.incarnation == hello.incarnation }
        guard bootstrap.isNews(hello), tending.joiners.count < Self.maxJoiners,
            hello.incarnation != identity.incarnation || hello.address == address
        else { return }
        tending.joiners.append(hello)
        tending.joiners.sort { $0.incarnation.rawValue < $1.incarnation.rawValue }
    }

    /// Who leads the system region, as far as known, or who else may.
    var systemNodes: [NodeID] {
        let members = (system ?? foreign[.system])?.peers.map(\.node) ?? []
        let targets = leaders[.system].map { [$0] } ?? members
        return targets.filter { $0 != identity.node }
    }
}

/// A registry, and where the system region is, on its way to a node that has an older one.
struct RegistryNews: Hashable {
    var registry: NodeRegistry
    var system: RegionDescriptor

    func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 1024)
        registry.encode(into: &writer)
        system.encode(into: &writer)
        return writer.take()
    }

    static func decode(_ bytes: Bytes) throws(DecodeError) -> RegistryNews {
        var reader = ByteReader(bytes)
        let registry = try NodeRegistry.decode(from: &reader)
        let system = try RegionDescriptor.decode(from: &reader)
        try reader.expectEnd()
        guard system.region == .system, system.isSystem else {
            throw DecodeError("not the system region", offset: 0)
        }
        return RegistryNews(registry: registry, system: system)
    }
}

extension Hello {
    //   hello | incarnation u64 | node u64, 0: none | name (len u32, bytes) | address (len u32, bytes) |

    /// What registers a directory: who it is, and where it is reached.
    func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 256)
        writer.append(incarnation.rawValue)
        writer.append(node?.rawValue ?? 0)
        writer.appendLengthPrefixed(Bytes(name))
        writer.appendLengthPrefixed(Bytes(address))
        return writer.take()
    }

    static func decode(_ bytes: Bytes) throws(DecodeError) -> Hello {
        var reader = ByteReader(bytes)
        let incarnation = Incarnation(try reader.read(UInt64.self))
        let node = try reader.read(UInt64.self)
        let name = try reader.readLengthPrefixed(limit: NodeRegistry.maxNameBytes)
        let address = try reader.readLengthPrefixed(limit: NodeRegistry.maxNameBytes)
        try reader.expectEnd()
        guard let name = String(validating: name.array, as: UTF8.self), !name.isEmpty,
            let address = String(validating: address.array, as: UTF8.self), !address.isEmpty
        else { throw DecodeError("a node without a name or an address", offset: 0) }
        return Hello(
            name: name, address: address, incarnation: incarnation, cluster: nil,
            node: node == 0 ? nil : NodeID(node))
    }
}
