"""Consumer groups: a consumer at the level of the protocol, right and wrong."""

import struct
from dataclasses import dataclass, field

from sides import CLOSED, Ref

REBALANCE_IN_PROGRESS, MEMBER_ID_REQUIRED = 27, 79


@dataclass
class Member:
    name: str
    lane: str
    instance: str | None = None
    generation: int = -1

    @property
    def id(self):
        return Ref(self.name)


@dataclass
class Group:
    name: str
    members: list = field(default_factory=list)
    generation: int = 0
    committed: bool = False


def state(world):
    if not hasattr(world, "groups"):
        world.groups = {}
    return world.groups


def some_group(world, with_members=False):
    there = [name for name, group in sorted(state(world).items()) if group.members or not with_members]
    return world.groups[world.random.choice(there)] if there else None


def subscription(topic):
    """A ConsumerProtocolSubscription v0: Kafka's coordinator reads it, and never answers when it can't."""
    return struct.pack(">hih", 0, 1, len(topic)) + topic.encode() + struct.pack(">i", -1)


def protocols(*names):
    return [{"Name": name, "Metadata": subscription("topic-of-" + name)} for name in names]


def join_body(world, group, member_id, instance=None, **changes):
    body = {"GroupId": group, "SessionTimeoutMs": 30000, "RebalanceTimeoutMs": 30000, "MemberId": member_id,
            "ProtocolType": "consumer", "Protocols": protocols("range", "roundrobin")}
    if instance:
        body["GroupInstanceId"] = instance
    body.update(changes)
    return body


def learn_member(name):
    def learn(side, answer):
        if answer.get("MemberId") and name not in side.numbers:
            side.learn(name, answer["MemberId"])
    return learn


def joins(world, group, member, version, before=None):
    """A member joins an empty group, or with `before` one whose other members join again meanwhile."""
    if member.name not in world.kafka.numbers and version >= 4 and not member.instance:
        answer = world.ask("JoinGroup", join_body(world, group.name, ""), version, "first join",
                           learn_member(member.name), member.lane)
        if not answer or answer["ErrorCode"] != MEMBER_ID_REQUIRED:
            return False
    known = member.name in world.kafka.numbers and member.name in world.penstock.numbers
    body = join_body(world, group.name, member.id if known else "", member.instance)
    world.send("JoinGroup", body, version, "joins", member.lane)
    if before:
        before()
    answer = world.receive(learn_member(member.name), member.lane)
    if answer["ErrorCode"]:
        return False
    member.generation = group.generation = answer["GenerationId"]
    return True


def sync_body(group, member, version, members=()):
    body = {"GroupId": group.name, "GenerationId": member.generation, "MemberId": member.id,
            "Assignments": [{"MemberId": other.id, "Assignment": b"for " + other.name.encode()} for other in members]}
    if version >= 3 and member.instance:
        body["GroupInstanceId"] = member.instance
    if version >= 5:
        body.update(ProtocolType="consumer", ProtocolName="range")
    return body


def new_member(world, group):
    world.names += 1
    name = f"member:{world.prefix}{world.names}"
    instance = f"i{world.names}" if world.chance(0.25) else None
    return Member(name, f"{group.name}/{world.names}", instance)


def start_group(world):
    """A group of one member comes to be and is assigned."""
    if len([group for group in state(world).values() if group.members]) >= 4:
        return
    empty = [group for group in world.groups.values() if not group.members]
    group = world.random.choice(sorted(empty, key=lambda group: group.name)) if empty and world.chance(0.4) else \
        Group(world.fresh("group"))
    world.groups[group.name] = group
    member = new_member(world, group)
    version = world.version("JoinGroup", 5 if member.instance else 0)
    if joins(world, group, member, version):
        group.members.append(member)
        version = world.version("SyncGroup")
        world.ask("SyncGroup", sync_body(group, member, version, [member]), version, lane=member.lane)


def grow_group(world):
    """A second and a third member join; the others are told to join again by their heartbeats."""
    group = some_group(world, True)
    if not group or len(group.members) > 2:
        return
    member = new_member(world, group)
    joined = []

    def others_join():
        # A member that is already there is told by a heartbeat once the newcomer has come in.
        for side in (world.kafka, world.penstock):
            wait_for_rebalance(side, group)
        for other in group.members:
            world.ask("Heartbeat", heartbeat_body(group, other), world.version("Heartbeat", 3), "rebalance",
                      lane="main")
        for other in group.members:
            version = world.version("JoinGroup", 5)
            world.send("JoinGroup", join_body(world, group.name, other.id, other.instance), version, "joins again",
                       other.lane)
            joined.append(other)

    if not joins(world, group, member, world.version("JoinGroup", 5), others_join):
        for other in joined:
            world.receive(lane=other.lane)
        return
    leader = group.members[0]
    for other in joined:
        answer = world.receive(lane=other.lane)
        if not answer["ErrorCode"]:
            other.generation = answer["GenerationId"]
    group.members.append(member)
    followers = [other for other in group.members if other is not leader]
    for other in followers:
        version = world.version("SyncGroup", 3)
        world.send("SyncGroup", sync_body(group, other, version), version, "waits for the leader", other.lane)
    version = world.version("SyncGroup", 3)
    world.ask("SyncGroup", sync_body(group, leader, version, group.members), version, "leads", lane=leader.lane)
    for other in followers:
        world.receive(lane=other.lane)


def wait_for_rebalance(side, group):
    import time
    for _ in range(500):
        answer = side.ask("DescribeGroups", 5, {"Groups": [group.name]})
        if answer["Groups"][0]["GroupState"] == "PreparingRebalance":
            return
        time.sleep(0.01)


def heartbeat_body(group, member):
    body = {"GroupId": group.name, "GenerationId": member.generation, "MemberId": member.id}
    if member.instance:
        body["GroupInstanceId"] = member.instance
    return body


def heartbeat(world):
    group = some_group(world, True)
    if not group:
        return
    member = world.random.choice(group.members)
    body = heartbeat_body(group, member)
    wrong(world, body)
    world.ask("Heartbeat", body, world.version("Heartbeat", 3), lane=member.lane)


def wrong(world, body, generation="GenerationId"):
    """Sometimes makes a member's request wrong."""
    roll = world.random.random()
    if roll < 0.1:
        body[generation] += world.random.choice((1, -1, 100))
    elif roll < 0.18:
        body["MemberId"] = world.random.choice(("nobody", ""))
    elif roll < 0.24:
        body["GroupId"] = world.random.choice((world.prefix + "no-group", ""))
    elif roll < 0.28:
        body["GroupInstanceId"] = "nobody"


def bad_join(world):
    """A join that is refused, one way or another."""
    group = some_group(world) or Group(world.fresh("group"))
    choices = (
        {"GroupId": ""}, {"SessionTimeoutMs": 1}, {"SessionTimeoutMs": 10 ** 8}, {"MemberId": "nobody"},
        {"Protocols": []}, {"ProtocolType": ""}, {"GroupInstanceId": "a b"}, {"GroupInstanceId": ".."},
        {"GroupInstanceId": "x" * 250},
        {"MemberId": "nobody", "GroupInstanceId": "nobody"}, {"SessionTimeoutMs": -1},
    )
    changes = world.random.choice(choices)
    if group.members and world.chance(0.5):
        changes = world.random.choice(({"Protocols": protocols("strange")}, {"ProtocolType": "connect"}))
    version = world.version("JoinGroup", 5 if "GroupInstanceId" in changes else 0)
    if "MemberId" not in changes and version < 4 and "GroupId" not in changes and not group.members:
        return
    # From version 4 on an unknown member is first told its id, and that would be left behind in the group.
    body = join_body(world, group.name, "nobody", **changes)
    world.ask("JoinGroup", body, version, f"refused: {sorted(changes)}")


def bad_sync(world):
    group = some_group(world, True)
    if not group:
        return
    member = world.random.choice(group.members)
    version = world.version("SyncGroup", 3)
    body = sync_body(group, member, version)
    wrong(world, body)
    if version >= 5 and world.chance(0.3):
        body.update(world.random.choice(({"ProtocolType": "connect"}, {"ProtocolName": "sticky"},
                                         {"ProtocolName": None}, {"ProtocolType": None})))
    world.ask("SyncGroup", body, version, lane=member.lane)


def leave(world):
    """Members leave; what is left of the group is a rebalance that nobody joins, so all leave."""
    group = some_group(world, True)
    if not group or world.chance(0.5):
        return
    version = world.version("LeaveGroup")
    if world.chance(0.3):
        body = {"GroupId": group.name, "MemberId": "nobody"} if version < 3 else {
            "GroupId": group.name, "Members": [{"MemberId": "nobody"}, {"MemberId": "", "GroupInstanceId": "nobody"}]}
        if world.chance(0.2):
            body["GroupId"] = world.random.choice(("", world.prefix + "no-group"))
        world.ask("LeaveGroup", body, version, "nobody leaves")
        return
    if version < 3:
        for member in group.members:
            world.ask("LeaveGroup", {"GroupId": group.name, "MemberId": member.id}, version)
    else:
        rows = []
        for member in group.members:
            rows.append({"MemberId": "", "GroupInstanceId": member.instance} if member.instance and world.chance(0.5)
                        else {"MemberId": member.id, "GroupInstanceId": member.instance})
        world.ask("LeaveGroup", {"GroupId": group.name, "Members": rows}, version)
    group.members = []


def commit(world):
    random = world.random
    version = world.version("OffsetCommit", 0, 9)
    group = some_group(world)
    if group is None or world.chance(0.2):
        group = Group(world.fresh("simple"))
        state(world)[group.name] = group
    topic = world.some_topic()
    rows = []
    for partition in sorted({random.randrange(topic.partitions) for _ in range(2)}):
        row = {"PartitionIndex": partition, "CommittedOffset": random.choice((0, 5, 100, 1 << 40, -1)),
               "CommittedMetadata": random.choice(("", "note", None, "m" * 4096, "m" * 4097))}
        if version >= 6:
            row["CommittedLeaderEpoch"] = random.choice((-1, 0, 3))
        rows.append(row)
    if not group.committed and not group.members and len(rows[0]["CommittedMetadata"] or "") > 4096:
        # Where nothing is accepted of a first commit, Kafka has made the group all the same, and shows it only once
        # something else was written.
        rows[0]["CommittedMetadata"] = "note"
    if world.chance(0.1):
        rows.append({"PartitionIndex": 77, "CommittedOffset": 1, "CommittedMetadata": ""})
    topics = [{"Name": topic.name, "Partitions": rows}]
    if world.chance(0.12):
        topics.append({"Name": world.prefix + "gone", "Partitions": [{"PartitionIndex": 0, "CommittedOffset": 1,
                                                                      "CommittedMetadata": ""}]})
    body = {"GroupId": group.name, "GenerationIdOrMemberEpoch": -1, "MemberId": "", "Topics": topics}
    lane = "main"
    if group.members:
        member = random.choice(group.members)
        body.update(GenerationIdOrMemberEpoch=member.generation, MemberId=member.id)
        lane = member.lane
        if version >= 7 and member.instance:
            body["GroupInstanceId"] = member.instance
    if world.chance(0.5) and not (body.get("GroupInstanceId") and version < 7):
        wrong(world, body, "GenerationIdOrMemberEpoch")
        if version < 7:
            body.pop("GroupInstanceId", None)
    world.ask("OffsetCommit", body, version, lane=lane)
    group.committed = True


def fetch_offsets(world):
    version = world.version("OffsetFetch", 0, 9)
    names = [group.name for group in [some_group(world)] if group] or [world.prefix + "no-group"]
    if world.chance(0.15):
        names = [world.random.choice((world.prefix + "no-group", ""))]
    topic = world.some_topic()
    topics = [{"Name": topic.name, "PartitionIndexes": [0, 1, 66][:world.random.randint(1, 3)]}]
    if world.chance(0.1):
        topics.append({"Name": world.prefix + "gone", "PartitionIndexes": [0]})
    if version >= 2 and world.chance(0.4):
        topics = None
    if version < 8:
        body = {"GroupId": names[0], "Topics": topics}
    else:
        if world.chance(0.3):
            names.append(world.prefix + "no-group")
        body = {"Groups": [{"GroupId": name, "Topics": topics} for name in dict.fromkeys(names)]}
        group = world.groups.get(names[0])
        if version >= 9 and group and group.members and world.chance(0.5):
            body["Groups"][0].update(MemberId=group.members[0].id, MemberEpoch=group.members[0].generation)
    if version >= 7:
        body["RequireStable"] = world.chance(0.5)
    world.ask("OffsetFetch", body, version)


def delete_offsets(world):
    group = some_group(world)
    topic = world.some_topic()
    rows = [{"Name": topic.name, "Partitions": [{"PartitionIndex": 0}, {"PartitionIndex": 44}]}]
    if world.chance(0.2):
        rows.append({"Name": world.prefix + "gone", "Partitions": [{"PartitionIndex": 0}]})
    name = group.name if group and world.chance(0.85) else world.random.choice((world.prefix + "no-group", ""))
    world.ask("OffsetDelete", {"GroupId": name, "Topics": rows})


def describe(world):
    names = [group.name for group in (some_group(world), some_group(world)) if group]
    if world.chance(0.25) or not names:
        names.append(world.random.choice((world.prefix + "no-group", "")))
    version = world.version("DescribeGroups")
    body = {"Groups": list(dict.fromkeys(names))}
    if version >= 3:
        body["IncludeAuthorizedOperations"] = world.chance(0.3)
    world.ask("DescribeGroups", body, version)


def list_groups(world):
    version = world.version("ListGroups")
    body = {}
    if version >= 4:
        body["StatesFilter"] = world.random.choice(([], ["Stable"], ["Empty", "Dead"], ["stable"], ["Nonsense"]))
    if version >= 5:
        body["TypesFilter"] = world.random.choice(([], ["classic"], ["consumer"], ["Classic"], ["nonsense"]))
    world.ask("ListGroups", body, version)


def delete_groups(world):
    names = [world.random.choice((world.prefix + "no-group", ""))] if world.chance(0.3) else []
    group = some_group(world)
    if group and (group.members or world.chance(0.4)):
        names.append(group.name)
    if not names:
        return
    answer = world.ask("DeleteGroups", {"GroupsNames": names})
    for row in answer["Results"]:
        if row["ErrorCode"] == 0:
            world.groups.pop(row["GroupId"], None)


def find_coordinator(world):
    version = world.version("FindCoordinator")
    body = {}
    keys = [world.random.choice((world.fresh("any"), "", "g"))]
    if version >= 4:
        body["CoordinatorKeys"] = keys + ["other"] * world.chance(0.3)
    else:
        body["Key"] = keys[0]
    if version >= 1:
        body["KeyType"] = world.random.choice((0, 0, 0, 0, 3, -1))
    world.ask("FindCoordinator", body, version)


ACTIONS = ((start_group, 5), (grow_group, 3), (heartbeat, 6), (bad_join, 5), (bad_sync, 4), (leave, 4), (commit, 9),
           (fetch_offsets, 7), (delete_offsets, 3), (describe, 5), (list_groups, 3), (delete_groups, 2),
           (find_coordinator, 3))
