"""The words of the generated grammar-rich text: names, nouns by number, verbs by form.

`RESERVED`, and what is missing among the prepositions of `INSIDE_SUBJECT`, keep the frames of the
benchmark suite `core` out of the text; `tests/test_grammar.py` holds them out.
"""

WOMEN = """Anna Laura Emma Helen Sarah Alice Julia Susan Rachel Nancy Clara Grace
Iris Kate Mary Olive Rose Vera Ada Agnes Alma Amy Angela Anne Annie April Barbara
Beth Betty Bella Brenda Carol Caroline Carrie Cathy Cecilia Charlotte Christine Cindy
Claire Cora Daisy Dana Daphne Dora Dorothy Edith Eileen Elena Eliza Elizabeth Ellen
Elsie Emily Erica Esther Ethel Eva Eve Faith Fanny Fiona Flora Frances Gemma Gina
Gloria Hannah Hazel Heather Hilda Hope Ida Irene Isabel Ivy Jane Jasmine Jean
Jennifer Jenny Jessica Jill Joan Joanna Josephine Joy Judith Judy June Karen Katie
Kelly Laurel Leah Lena Lily Linda Lisa Lola Louisa Louise Lucy Lydia Mabel Maggie
Margaret Maria Martha Maud May Megan Mia Michelle Mina Miriam Molly Monica Nadia Nell
Nina Nora Norma Olga Olivia Pamela Patricia Pearl Penny Phoebe Polly Rebecca Rita
Robin Ruby Ruth Sally Sandra Sharon Shirley Sonia Sophia Sophie Sylvia Tessa Tina
Ursula Valerie Vanessa Victoria Viola Violet Wendy Winifred Zoe""".split()
MEN = """Peter David Robert Frank Henry George Martin Paul Simon Philip Ben Jack Leo
Noah Sam Tom Adam Alan Albert Alfred Andrew Anthony Archie Arnold Arthur Barry
Bernard Bill Bob Bruce Calvin Carl Cecil Charles Charlie Chris Clive Colin Daniel
Dennis Derek Donald Douglas Duncan Edgar Edmund Edward Edwin Eric Ernest Felix
Francis Fred Gary Geoffrey Gerald Gilbert Gordon Graham Greg Guy Harold Harry Harvey
Herbert Howard Hugh Hugo Ian Isaac Ivan Jacob Jake James Jason Jeremy Jim Joe John
Jonathan Joseph Joshua Keith Ken Kenneth Kevin Lance Larry Lawrence Leon Leonard
Lewis Louis Luke Malcolm Marcus Matthew Max Michael Miles Neil Nicholas Nigel Norman
Oliver Oscar Otto Owen Patrick Percy Ralph Ray Raymond Rex Richard Roger Roland
Ronald Roy Rupert Samuel Scott Sidney Stanley Stephen Steven Stuart Ted Theodore
Thomas Tim Timothy Toby Tony Victor Vincent Walter Warren Wayne Will""".split()
SYLLABLES = """ma ri lo ta ne sa ve do ka li ro be ju al ber dor el fran gar har il jor ken lor mar
nor or per ran stel tor ul van wil yol zan char gin hei jac kath lu mel phi ros she vir""".split()
ENDINGS = """na nie la ra lyn line ry dy ta sa cy mond ton bert ward mer nan vin son lia nor dra
die mas rick fred rin don ley""".split()
"""Parts of invented names."""

PEOPLE = """teacher/teachers farmer/farmers student/students pilot/pilots
neighbor/neighbors painter/painters driver/drivers nurse/nurses boy/boys girl/girls
man/men woman/women child/children friend/friends doctor/doctors lawyer/lawyers
singer/singers poet/poets father/fathers mother/mothers uncle/uncles aunt/aunts
kid/kids guy/guys athlete/athletes carpenter/carpenters victim/victims chef/chefs
guard/guards parent/parents dancer/dancers minister/ministers assistant/assistants
baker/bakers sailor/sailors soldier/soldiers king/kings queen/queens prince/princes
judge/judges writer/writers worker/workers cook/cooks clerk/clerks captain/captains
servant/servants guest/guests visitor/visitors stranger/strangers
traveller/travellers brother/brothers sister/sisters son/sons daughter/daughters
cousin/cousins hunter/hunters miller/millers shepherd/shepherds tailor/tailors
merchant/merchants priest/priests lady/ladies gentleman/gentlemen policeman/policemen
wife/wives husband/husbands baby/babies actor/actors customer/customers
waiter/waiters manager/managers reporter/reporters scientist/scientists
officer/officers senator/senators author/authors consultant/consultants
surgeon/surgeons skater/skaters tourist/tourists professor/professors
dentist/dentists engineer/engineers gardener/gardeners fisherman/fishermen
partner/partners""".split()
ANIMALS = """dog/dogs cat/cats horse/horses cow/cows bird/birds duck/ducks
goose/geese rabbit/rabbits mouse/mice pig/pigs hen/hens fox/foxes wolf/wolves
bear/bears lion/lions goat/goats donkey/donkeys crow/crows frog/frogs
squirrel/squirrels monkey/monkeys bee/bees snake/snakes turtle/turtles owl/owls""".split()
HANDY = """book/books picture/pictures letter/letters key/keys lamp/lamps cup/cups
bottle/bottles basket/baskets bag/bags coat/coats hat/hats shoe/shoes shirt/shirts
clock/clocks bell/bells box/boxes flower/flowers leaf/leaves apple/apples cake/cakes
knife/knives plate/plates glass/glasses mirror/mirrors candle/candles rope/ropes
wheel/wheels ladder/ladders paper/papers map/maps coin/coins toy/toys ball/balls
drum/drums guitar/guitars stone/stones chair/chairs bike/bikes spoon/spoons egg/eggs
pen/pens ring/rings stick/sticks umbrella/umbrellas photo/photos""".split()
LARGE = """house/houses tree/trees boat/boats road/roads garden/gardens car/cars
truck/trucks desk/desks table/tables window/windows door/doors wall/walls ship/ships
train/trains bridge/bridges tower/towers shop/shops church/churches school/schools
farm/farms field/fields hill/hills river/rivers lake/lakes chest/chests
drawer/drawers shelf/shelves room/rooms bed/beds machine/machines fence/fences
gate/gates path/paths tent/tents cart/carts barrel/barrels engine/engines
statue/statues""".split()
THINGS = HANDY + LARGE

RESERVED = frozenset(
    "teacher teachers farmer farmers student students pilot pilots neighbor neighbors painter "
    "painters driver drivers nurse nurses".split()
)
"""Nouns never said as `The NOUN VERB`: an adjective or a phrase is between, or another article."""

KIND = """old young tall kind clever happy tired quiet brave hungry rich poor proud
honest famous strong lazy angry friendly careful little busy""".split()
"""Adjectives of people and animals."""
LOOK = """big small new old red blue green white black brown yellow heavy long broken
clean dirty empty large round dark pretty cheap strange beautiful wooden""".split()
"""Adjectives of things."""
STATE = """happy sad tired hungry ready late busy here safe alone ill well quiet
angry afraid glad awake asleep at_home outside nearby very_old rather_tall in_town
on_time full_of_hope""".split()
"""What people and animals can be."""
CONDITION = """red blue green white black old new clean dirty broken empty full heavy
cheap expensive beautiful very_small too_large made_of_wood on_fire for_sale
easy_to_find hard_to_see covered_with_snow ready dry wet""".split()
"""What things can be."""
DOES = """likes/like sees/see wants/want knows/know needs/need loves/love hates/hate
helps/help watches/watch follows/follow remembers/remember admires/admire
visits/visit finds/find meets/meet calls/call hears/hear avoids/avoid fears/fear
trusts/trust""".split()
"""Verbs between people, which take a person or an animal."""
HOLDS = """likes/like sees/see wants/want needs/need has/have buys/buy sells/sell
carries/carry paints/paint cleans/clean keeps/keep breaks/break finds/find opens/open
holds/hold loses/lose remembers/remember loves/love makes/make brings/bring owns/own
repairs/repair""".split()
"""Verbs of people with a thing."""
ACTS = """runs/run sings/sing sleeps/sleep laughs/laugh works/work waits/wait
smiles/smile talks/talk dances/dance reads/read walks/walk plays/play cooks/cook
swims/swim arrives/arrive leaves/leave cries/cry sits/sit stands/stand travels/travel
returns/return falls/fall grows/grow eats/eat rests/rest shouts/shout""".split()
"""Verbs of people and animals with no object."""
STAYS = """stands/stand lies/lie looks_old/look_old seems_new/seem_new falls/fall
breaks/break shines/shine smells_good/smell_good belongs_to_us/belong_to_us
costs_a_lot/cost_a_lot moves/move needs_paint/need_paint remains/remain
disappears/disappear opens/open""".split()
"""Verbs of things."""
FEELS = """seems/seem looks/look feels/feel becomes/become sounds/sound""".split()
DOING = """running singing sleeping laughing working waiting reading walking playing
cooking swimming leaving crying eating resting coming going talking learning
looking_for_work""".split()
PAST = """saw found liked followed helped bought sold lost carried watched called
visited met loved heard kept hated cleaned""".split()
HOW = """slowly quickly every_day in_the_morning at_night very_well again
together_with_friends on_Sundays too_much near_the_river all_day at_home after_school
in_summer before_dinner very_often""".split()
WHEN = """Today Now Sometimes On_Sundays In_summer At_night In_the_evening At_noon
Often In_this_town Here This_week In_the_end As_a_rule After_lunch Most_days""".split()
INSIDE_SUBJECT = """by with from under above across_from next_to in_front_of around
on at inside opposite below over of against""".split()
"""Prepositions within a subject: never near, behind or beside, which `core` asks about."""

PLACES = """park store station library office school market beach museum garden
kitchen harbour church hotel hospital theatre restaurant bakery farm castle bridge
lake river village mill square cafe shop airport bank stadium forest playground
cinema zoo factory gallery pool temple tavern""".split()
GIFTS = """book ring drink letter ticket basket flower key apple ball bottle box cake
candle card chair coat coin cup hat knife lamp map medal mirror necklace newspaper
note orange parcel pear pen pencil photograph picture pie plate present purse rope
rose sandwich scarf shell shirt spoon stamp stone sword toy umbrella violin watch
peach banana melon basketball bone computer kiss snack guitar""".split()
COLOURS = "red blue green white black brown yellow grey orange purple pink golden".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = """January February March April May June July August September October
November December""".split()
NUMBERS = """one two three four five six seven eight nine ten eleven twelve thirteen
fourteen fifteen sixteen seventeen eighteen nineteen twenty""".split()
CAPITALS = """France/Paris England/London Spain/Madrid Italy/Rome Germany/Berlin
Russia/Moscow Greece/Athens Egypt/Cairo Japan/Tokyo China/Beijing Poland/Warsaw
Austria/Vienna Ireland/Dublin Norway/Oslo Sweden/Stockholm Portugal/Lisbon
Hungary/Budapest Cuba/Havana Kenya/Nairobi Peru/Lima Canada/Ottawa Belgium/Brussels
Denmark/Copenhagen Finland/Helsinki Turkey/Ankara""".split()
OPPOSITES = """big/small hot/cold old/new fast/slow high/low good/bad light/dark
long/short rich/poor full/empty hard/soft early/late dry/wet clean/dirty strong/weak
happy/sad young/old open/closed near/far loud/quiet""".split()
